"""The face backbone learns from single pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor, nn

from models.spec import TARGETS, CropSpec, VisualSpec
from models.visual.backbone import Backbone
from offline.data.windows import centre_crop, random_augmentation, take_pixels
from offline.pretraining.base import PretrainingTask, count_batches, pick_batches

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from offline.data.store import TrialRecord
    from offline.training.options import PretrainOptions

_JITTER: Final = 0.25
_AT_ONCE: Final = 100


class VisualTask(PretrainingTask):
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
        return count_batches(trials, self.options.every, self.options.pictures)

    def epoch(
        self, trials: Sequence[TrialRecord], random: np.random.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Pictures in any order, each under its own crop, mirror, brightness and contrast."""
        crops, labels = [t.crops for t in trials], [t.labels for t in trials]
        for some in pick_batches(trials, self.options.every, self.options.pictures, random):
            pixels = np.concatenate(
                [
                    take_pixels(crops[i][k : k + 1], random_augmentation(random, self.crop), self.crop)
                    for i, k in some
                ]
            )
            gain = 1 + random.uniform(-_JITTER, _JITTER, (len(some), 1, 1, 1))
            shift = random.uniform(-_JITTER, _JITTER, (len(some), 1, 1, 1))
            # A frame without a face is the zero crop and stays that.
            seen = pixels.max(axis=(1, 2, 3), keepdims=True) > -1
            pixels = np.where(seen, np.clip(pixels * gain + shift, -1, 1), pixels).astype(np.float32)
            wanted = torch.from_numpy(np.stack([labels[i][k] for i, k in some]))
            yield self._estimate(torch.from_numpy(pixels)), wanted.to(self.options.device)

    def predict(self, trial: TrialRecord) -> tuple[Tensor, Tensor]:
        """Under the centre crop."""
        every = self.options.every
        crops, labels = trial.crops[::every], torch.from_numpy(np.array(trial.labels[::every]))
        parts = [
            self._estimate(
                torch.from_numpy(take_pixels(crops[a : a + _AT_ONCE], centre_crop(self.crop), self.crop))
            )
            for a in range(0, len(crops), _AT_ONCE)
        ]
        return torch.cat(parts), labels

    def _estimate(self, pixels: Tensor) -> Tensor:
        estimates: Tensor = self.head(self.encoder(pixels.to(self.options.device)))
        return estimates
