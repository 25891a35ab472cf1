"""The audio encoder learns from windows of sound."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.audio.vggish import Vggish
from models.spec import TARGETS, AudioSpec
from models.tcn import TemporalBranch
from offline.learners.base import Learner
from offline.options import PretrainOptions
from offline.store import TrialRecord

_AT_ONCE: Final = 100


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


def _patches(trial: TrialRecord, at: NDArray[Any]) -> Tensor:
    patches = trial.patches(int(at[0]), int(at[-1]) + 1)[at - at[0]]
    return torch.from_numpy(np.ascontiguousarray(patches))
