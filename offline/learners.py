"""What pretraining trains: a slim preset's backbone and audio encoder, each under what is thrown away afterwards."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.audio.vggish import Vggish
from models.errors import UserError
from models.spec import TARGETS, AudioSpec, CropSpec, VisualSpec
from models.tcn import TemporalBranch
from models.visual.backbone import Backbone
from offline.options import PretrainOptions
from offline.store import TrialRecord
from offline.windows import centre_draw, random_draw, take_pixels

Part = Literal["visual", "audio"]
PARTS: Final[tuple[Part, ...]] = ("visual", "audio")

_JITTER: Final = 0.25
_AT_ONCE: Final = 100


class Learner(ABC, nn.Module):
    """A part and what it learns with: batches to (estimates (B, T, K), labels (B, T, K))."""

    part: Part
    encoder: Backbone | Vggish

    @abstractmethod
    def epoch(
        self, trials: Sequence[TrialRecord], random: np.random.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of one epoch, in train mode."""

    @abstractmethod
    def steps(self, trials: Sequence[TrialRecord]) -> int:
        """How many batches an epoch has at least."""

    @abstractmethod
    def predict(self, trial: TrialRecord) -> tuple[Tensor, Tensor]:
        """(estimates (n, K), labels (n, K)) of every so many frames of a trial, in eval mode."""


class VisualLearner(Learner):
    """The backbone under one linear layer: pictures of many people and moments in one batch."""

    part = "visual"

    def __init__(self, spec: VisualSpec, options: PretrainOptions) -> None:
        super().__init__()
        self.encoder: Backbone = Backbone(spec.backbone)
        self.head = nn.Linear(spec.embedding, len(TARGETS))
        # Embeddings have unit length: the head begins at a scale at which they matter.
        nn.init.normal_(self.head.weight, std=1.0)
        self.options = options
        self.crop = CropSpec()

    def steps(self, trials: Sequence[TrialRecord]) -> int:
        """Every so many pictures, a batch at a time."""
        return max(1, sum(t.frames // self.options.every for t in trials) // self.options.pictures)

    def epoch(
        self, trials: Sequence[TrialRecord], random: np.random.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Pictures in any order, each under its own crop, mirror, brightness and contrast."""
        size = self.options.pictures
        index = _pick(trials, self.options.every, random)
        crops, labels = [t.crops for t in trials], [t.labels for t in trials]
        random.shuffle(index)
        for begin in range(0, max(len(index) - size // 2, 1), size):
            some = index[begin : begin + size]
            pixels = np.concatenate(
                [take_pixels(crops[i][k : k + 1], random_draw(random, self.crop), self.crop) for i, k in some]
            )
            gain = 1 + random.uniform(-_JITTER, _JITTER, (len(some), 1, 1, 1))
            shift = random.uniform(-_JITTER, _JITTER, (len(some), 1, 1, 1))
            # A frame without a face is the zero crop and stays that.
            seen = pixels.max(axis=(1, 2, 3), keepdims=True) > -1
            pixels = np.where(seen, np.clip(pixels * gain + shift, -1, 1), pixels).astype(np.float32)
            wanted = torch.from_numpy(np.stack([labels[i][k] for i, k in some]))
            yield self._estimate(torch.from_numpy(pixels))[None], wanted.to(self.options.device)[None]

    def predict(self, trial: TrialRecord) -> tuple[Tensor, Tensor]:
        """Under the centre crop."""
        every = self.options.every
        crops, labels = trial.crops[::every], torch.from_numpy(np.array(trial.labels[::every]))
        parts = [
            self._estimate(
                torch.from_numpy(take_pixels(crops[a : a + _AT_ONCE], centre_draw(self.crop), self.crop))
            )
            for a in range(0, len(crops), _AT_ONCE)
        ]
        return torch.cat(parts), labels

    def _estimate(self, pixels: Tensor) -> Tensor:
        estimates: Tensor = self.head(self.encoder(pixels.to(self.options.device)))
        return estimates


class AudioLearner(Learner):
    """The audio encoder under a TCN of the branch's own form and one linear layer: windows of sound."""

    part = "audio"

    def __init__(self, spec: AudioSpec, options: PretrainOptions) -> None:
        super().__init__()
        self.encoder: Vggish = Vggish(spec.encoder)
        for module in self.encoder.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                # The original's weights come trained; ours must let a signal through eight rectifiers first.
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        self.norm = nn.BatchNorm1d(spec.embedding)
        self.temporal = TemporalBranch(spec.temporal, spec.embedding)
        self.head = nn.Linear(spec.temporal.encoding, len(TARGETS))
        self.options = options

    def steps(self, trials: Sequence[TrialRecord]) -> int:
        """Windows, a batch at a time."""
        span = self.options.window * self.options.every
        return math.ceil(sum(max(1, t.frames // span) for t in trials) / self.options.windows)

    def epoch(
        self, trials: Sequence[TrialRecord], random: np.random.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Windows that begin anywhere."""
        every, span = self.options.every, self.options.window * self.options.every
        windows = [
            (trial, int(random.integers(max(1, trial.frames - span + 1))))
            for trial in trials
            for _ in range(max(1, trial.frames // span))
        ]
        order = random.permutation(len(windows))
        for begin in range(0, len(order), self.options.windows):
            some = [windows[i] for i in order[begin : begin + self.options.windows]]
            frames = [np.arange(start, min(start + span, t.frames), every) for t, start in some]
            labels = np.full((len(some), self.options.window, len(TARGETS)), np.nan, np.float32)
            for row, (t, _), at in zip(labels, some, frames, strict=True):
                row[: len(at)] = t.labels[at]
            yield (
                self._estimate([_patches(t, at) for (t, _), at in zip(some, frames, strict=True)]),
                torch.from_numpy(labels).to(self.options.device),
            )

    def predict(self, trial: TrialRecord) -> tuple[Tensor, Tensor]:
        """The whole trial in one causal pass."""
        at = np.arange(0, trial.frames, self.options.every)
        embeddings = torch.cat(
            [self._embed(_patches(trial, at[a : a + _AT_ONCE])) for a in range(0, len(at), _AT_ONCE)]
        )
        estimates: Tensor = self.head(self.temporal(self.norm(embeddings)[None]))[0]
        return estimates, torch.from_numpy(np.array(trial.labels[at]))

    def _embed(self, patches: Tensor) -> Tensor:
        embeddings: Tensor = self.encoder(patches.to(self.options.device))
        return embeddings

    def _estimate(self, windows: list[Tensor]) -> Tensor:
        embeddings = self.norm(self._embed(torch.cat(windows)))
        padded = embeddings.new_zeros(len(windows), self.options.window, embeddings.shape[1])
        begin = 0
        for i, window in enumerate(windows):
            padded[i, : len(window)] = embeddings[begin : begin + len(window)]
            begin += len(window)
        estimates: Tensor = self.head(self.temporal(padded))
        return estimates


def make_learner(part: Part, options: PretrainOptions) -> Learner:
    """The part of the options' preset, and what it learns with. Raises UserError where the preset has none."""
    spec = options.network
    if part == "visual" and spec.visual is not None:
        return VisualLearner(spec.visual, options)
    if part == "audio" and spec.audio is not None:
        return AudioLearner(spec.audio, options)
    raise UserError(f"the {options.preset} preset has no {part} branch")


def _pick(trials: Sequence[TrialRecord], every: int, random: np.random.Generator) -> list[tuple[int, int]]:
    """(trial, frame) of every so many labelled frames, begun anywhere."""
    begin = int(random.integers(every))
    known = [np.logical_not(np.isnan(t.labels).all(axis=1)) for t in trials]
    picked = [(i, k) for i, mask in enumerate(known) for k in range(begin, len(mask), every) if mask[k]]
    if not picked:
        raise UserError("no frame of the training people has a label: nothing to learn from")
    return picked


def _patches(trial: TrialRecord, at: NDArray[Any]) -> Tensor:
    patches = trial.patches(int(at[0]), int(at[-1]) + 1)[at - at[0]]
    return torch.from_numpy(np.ascontiguousarray(patches))
