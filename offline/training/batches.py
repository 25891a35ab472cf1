"""Trials as one fold's network takes them: pixels or the trunk's maps, embeddings, labels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from models.errors import UserError
from models.spec import TARGETS, Modality, NetworkSpec
from offline.data.store import MODALITY_BITS
from offline.data.whole_trials import (
    TrialEmbeddings,
    availability,
    embed_crops,
    stored_embeddings,
    unrecorded,
)
from offline.data.windows import (
    CropAugmentation,
    Window,
    centre_crop,
    chunks,
    cut,
    cut_windows,
    fixed_augmentations,
    random_augmentation,
    take_pixels,
)
from offline.training.cache import CHUNK_FRAMES, EmbeddingCache, MapCache, trunk_maps

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from models.networks.fold import EmotionNetwork
    from models.visual.backbone import Backbone
    from offline.data.store import Store, TrialRecord
    from offline.training.options import TrainOptions
    from offline.training.pretrained import PretrainedEncoders


@dataclass(frozen=True)
class TrialWindow:
    """One window of one trial."""

    trial: TrialRecord
    window: Window


@dataclass(frozen=True, eq=False)
class Batch:
    """B windows of T frames: `maps` (B * T, C, h, w) of the frozen trunk, or so many of the tail's `units` on,
    embeddings (B, T, E), labels (B, T, K).

    Labels are NaN where nothing is annotated and where a window is padded. A branch that the network has not is None.
    `available` (B, T, M) says which modalities there are: a recording without sound has neither sound nor words.
    """

    maps: Tensor | None
    units: int
    audio: Tensor | None
    language: Tensor | None
    labels: Tensor
    available: Tensor


class TrainingInputs:
    """The trials of a store for one network, on one device. Raises UserError where they do not fit it."""

    def __init__(
        self,
        store: Store,
        trials: Sequence[TrialRecord],
        pretrained: PretrainedEncoders,
        options: TrainOptions,
        cache: Path,
        store_hash: str,
    ) -> None:
        self.spec = options.network
        self.crop = store.recipe.crop
        self.trials = tuple(trials)
        self._device = torch.device(options.device)
        self._targets = [TARGETS.index(t) for t in self.spec.targets]
        self._augment = options.augment
        self._mask_share = options.mask_share
        self._trunk: Backbone | None = None
        self._maps: MapCache | None = None
        self._sound: EmbeddingCache | None = None
        if self.spec.visual is not None:
            assert pretrained.backbone is not None
            self._trunk = pretrained.backbone.to(self._device)
            if options.cache_trunk:
                augmentations = fixed_augmentations(options.cache_trunk if options.augment else 1, self.crop)
                self._maps = MapCache(cache, self._trunk, augmentations, self.crop, store_hash)
        if self.spec.audio is not None and pretrained.audio_encoder is not None:
            self._sound = EmbeddingCache(cache, pretrained.audio_encoder.to(self._device), store_hash)
        check_trials(store, self.trials, self.spec, own_encoder=self._sound is not None)

    @property
    def cache_entries(self) -> int:
        """How many entries `fill_sound` and `fill_maps` go through."""
        variants = len(self._maps.augmentations) if self._maps is not None else 0
        return len(self.trials) * (variants + (self._sound is not None))

    def fill_sound(self, *, backwards: bool = False) -> Iterator[None]:
        """Compute the embeddings that the cache lacks, yielding after each trial.

        Two folds that start together, one of them backwards, share the work.
        """
        if self._sound is not None:
            yield from self._sound.fill(self.trials[::-1] if backwards else self.trials)

    def fill_maps(self, released: Collection[str], *, backwards: bool = False) -> Iterator[None]:
        """As `fill_sound`, the maps of all that is frozen while so many groups are released, yielding after each."""
        if self._maps is not None:
            trials = self.trials[::-1] if backwards else self.trials
            yield from self._maps.fill(trials, self._frozen_units(released))

    def normalisation(self, names: Sequence[str]) -> dict[Modality, tuple[float, float]]:
        """One scalar mean and standard deviation of each modality's embeddings over the named trials' frames.

        Trials without sound do not count: what stands for it is masked.
        Pixels are normalised as pixels: (0, 1) for the visual branch, and (mean, 1) for embeddings without spread.
        """
        wanted = set(names)
        trials = [t for t in self.trials if t.name in wanted and t.facts.has_sound]
        found = dict.fromkeys(self.spec.modalities, (0.0, 1.0))
        for modality in (Modality.AUDIO, Modality.LANGUAGE):
            if modality in found:
                found[modality] = scalar_moments(self._finite_embeddings(t, modality) for t in trials)
        return found

    def windows(self, names: Sequence[str], options: TrainOptions) -> list[TrialWindow]:
        """The windows over the named trials, in their order; those without any label are left out."""
        known = {t.name: t for t in self.trials}
        found = []
        for trial in (known[name] for name in names):
            labels = self.labels(trial)
            found += [
                TrialWindow(trial, window)
                for window in cut_windows(trial.frames, options.window_spec)
                if not np.isnan(labels[window.start : window.stop]).all()
            ]
        return found

    def labels(self, trial: TrialRecord) -> NDArray[np.float32]:
        """A trial's labels (N, K) of the network's targets, NaN where nothing is annotated.

        Of a composed trial as somebody would give them who is told of the network's modalities.
        """
        return np.asarray(trial.labels_given(self.spec.modalities), np.float32)[:, self._targets]

    def batch(
        self, windows: Sequence[TrialWindow], random: np.random.Generator, released: Collection[str] = ()
    ) -> Batch:
        """Windows as one batch for training: each under one augmentation of the crop, drawn from `random`."""
        maps: Tensor | None = None
        units = 0
        if self._maps is not None:
            units = self._frozen_units(released)
            variants = [int(random.integers(len(self._maps.augmentations))) for _ in windows]
            cached = [
                cut(self._maps.maps(w.trial, v, units), w.window)
                for w, v in zip(windows, variants, strict=True)
            ]
            maps = torch.from_numpy(np.concatenate(cached)).to(self._device).float()
        elif self._trunk is not None:
            centre = centre_crop(self.crop)
            augmentations = [
                random_augmentation(random, self.crop) if self._augment else centre for _ in windows
            ]
            pixels = [self._pixels(w, d) for w, d in zip(windows, augmentations, strict=True)]
            maps = trunk_maps(self._trunk, torch.cat(pixels).to(self._device))
        available = torch.stack(
            [mask_branches(self._available(w), self._mask_share, random) for w in windows]
        )
        return Batch(
            maps=maps,
            units=units,
            audio=self._stack(windows, Modality.AUDIO),
            language=self._stack(windows, Modality.LANGUAGE),
            labels=self._to_device(
                [self._window_labels(w, there) for w, there in zip(windows, available.numpy(), strict=True)]
            ),
            available=available.to(self._device),
        )

    def _window_labels(self, w: TrialWindow, available: NDArray[np.bool_]) -> NDArray[np.float32]:
        """A window's labels (T, K), as somebody would give them who is told of what is `available` (T, M).

        Where the trial has one label for all, that is it: people who annotate a recording both see and hear it.
        """
        partial = w.trial.partial_labels
        if partial is None:
            return np.asarray(cut(self.labels(w.trial), w.window, np.nan), np.float32)
        bits = np.array([MODALITY_BITS[m] for m in self.spec.modalities])
        told = available @ bits
        labels = cut(partial, w.window, np.nan)
        return np.asarray(labels[np.arange(len(labels)), told], np.float32)[:, self._targets]

    @torch.no_grad()
    def embeddings(
        self, network: EmotionNetwork, trial: TrialRecord, released: Collection[str] | None = None
    ) -> TrialEmbeddings:
        """A whole trial, seen through the centre crop by `network` in eval mode: (1, N, E) of each modality.

        Where it is said which groups training has `released`, by the kept maps of all before them, which come of the
        trunk's rounded to float16.
        """
        found: dict[Modality, Tensor] = {
            m: stored_embeddings(self._embeddings(trial, m), self._device)[None]
            for m in (Modality.AUDIO, Modality.LANGUAGE)
            if m in self.spec.modalities
        }
        backbone = network.backbone
        if backbone is not None and self._trunk is not None:
            if released is None or self._maps is None:
                pictures = embed_crops(trial, self.crop, backbone, self._device, CHUNK_FRAMES)
            else:
                units = self._frozen_units(released)
                maps = self._maps.maps(trial, 0, units)
                pictures = torch.cat(
                    [
                        backbone.tail(torch.from_numpy(np.array(maps[a:b])).to(self._device).float(), units)
                        for a, b in chunks(trial.frames, CHUNK_FRAMES)
                    ]
                )
            found[Modality.VISUAL] = pictures[None]
        return TrialEmbeddings(found, unrecorded(trial).intersection(self.spec.modalities))

    def _frozen_units(self, released: Collection[str]) -> int:
        assert self._trunk is not None
        return self._trunk.frozen_units(released)

    def _available(self, w: TrialWindow) -> Tensor:
        """Which modalities a window has (T, M), on the CPU: masks and labels are drawn there."""
        return availability(self.spec.modalities, unrecorded(w.trial), w.window.length, torch.device("cpu"))

    def _pixels(self, w: TrialWindow, augmentation: CropAugmentation) -> Tensor:
        crops = np.asarray(cut(w.trial.crops, w.window), np.uint8)
        return torch.from_numpy(take_pixels(crops, augmentation, self.crop))

    def _embeddings(self, trial: TrialRecord, modality: Modality) -> NDArray[np.float32]:
        if modality is Modality.LANGUAGE:
            return trial.language
        if self._sound is not None:
            return self._sound.embeddings(trial)
        assert trial.audio is not None
        return trial.audio

    def _finite_embeddings(self, trial: TrialRecord, modality: Modality) -> NDArray[np.float32]:
        values = self._embeddings(trial, modality)
        if not np.isfinite(values).all():
            raise UserError(
                f"trial '{trial.name}' has {modality.value} embeddings that are not finite: "
                f"remove {trial.folder} and run offline-preprocess again"
            )
        return values

    def _stack(self, windows: Sequence[TrialWindow], modality: Modality) -> Tensor | None:
        if modality not in self.spec.modalities:
            return None
        return self._to_device([cut(self._embeddings(w.trial, modality), w.window) for w in windows])

    def _to_device(self, arrays: Sequence[NDArray[np.generic]]) -> Tensor:
        return torch.from_numpy(np.stack([np.asarray(a, np.float32) for a in arrays])).to(self._device)


def mask_branches(available: Tensor, share: float, random: np.random.Generator) -> Tensor:
    """`available` (T, M) with, in `share` of all calls, some but not all branches masked for a while.

    The while is the whole window in half of these, else a random part of it. Draws nothing where `share` is 0.
    """
    frames, branches = available.shape
    if not share or branches < 2 or random.random() >= share:
        return available
    masked = random.permutation(branches)[: random.integers(1, branches)]
    begin, end = (0, frames) if random.random() < 0.5 else sorted(random.integers(0, frames + 1, 2))
    available = available.clone()
    available[begin:end, torch.from_numpy(masked)] = False
    return available


def scalar_moments(series: Iterator[NDArray[np.float32]]) -> tuple[float, float]:
    """Mean and population standard deviation over every number of all arrays; (mean, 1) without any spread.

    Two running sums about the first array's mean, in float64.
    """
    count, total, squares, origin = 0, 0.0, 0.0, math.nan
    for array in series:
        values = np.asarray(array, np.float64)
        if values.size and math.isnan(origin):
            origin = float(values.mean())
        count += values.size
        total += float((values - origin).sum()) if values.size else 0.0
        squares += float(((values - origin) ** 2).sum()) if values.size else 0.0
    if not count:
        return 0.0, 1.0
    variance = squares / count - (total / count) ** 2
    std = math.sqrt(max(variance, 0.0))
    return origin + total / count, std if std > 1e-8 else 1.0


def check_trials(
    store: Store, trials: Sequence[TrialRecord], spec: NetworkSpec, *, own_encoder: bool
) -> None:
    """Refuse trials whose features do not fit `spec`, by name and with the way out. Raises UserError.

    `own_encoder` says that the run brings an audio encoder, so that the store need not have embeddings.
    """
    for trial in trials:
        where = f"trial '{trial.name}' of {store.folder}"
        if trial.frames == 0:
            raise UserError(f"{where} has no frames: remove it and preprocess again")
        if spec.language is not None:
            width = int(trial.language.shape[1])
            if width != spec.language.embedding:
                raise UserError(
                    f"{where} has word vectors {width} wide, the network wants {spec.language.embedding}: preprocess "
                    "with its text encoder, or leave the branch out with --modalities visual,audio"
                )
        if spec.audio is not None and not own_encoder:
            audio = trial.audio
            if audio is None:
                raise UserError(
                    f"{where} has no audio embeddings: install VGGish (models-pull vggish) and preprocess again, "
                    "or leave the branch out with --modalities visual,language"
                )
            if audio.shape[1] != spec.audio.embedding:
                raise UserError(
                    f"{where} has audio embeddings {audio.shape[1]} wide, the network wants {spec.audio.embedding}",
                    way_out="preprocess again with its audio encoder",
                )
        values = np.asarray(trial.labels)
        if np.isinf(values).any():
            raise UserError(f"{where} has infinite labels: preprocess it again")
