"""The audio encoder learns from single patches of sound."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor, nn

from models.audio.vggish import Vggish
from models.spec import TARGETS, AudioSpec
from offline.data.store import TrialRecord, gather_patches
from offline.pretraining.base import PretrainingTask, count_batches, pick_batches

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from offline.training.options import PretrainOptions

_AT_ONCE: Final = 100
_SHIFT: Final = 3
_MIXING: Final = 0.4


class AudioTask(PretrainingTask):
    """The audio encoder under one linear layer: patches of many people and moments in one batch.

    Voices differ more from each other than a feeling changes one of them. In a batch of few people the easiest way
    to a good estimate is to know who speaks, and that says nothing of others.
    """

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
        self.head = nn.Linear(spec.embedding, len(TARGETS))
        self.options = options

    def steps(self, trials: Sequence[TrialRecord]) -> int:
        """Every so many patches, a batch at a time."""
        return count_batches(trials, self.options.every, self.options.patches)

    def epoch(
        self, trials: Sequence[TrialRecord], random: np.random.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Patches in any order, of voices a little higher or lower, each with some of another in it."""
        labels = [t.labels for t in trials]
        sounds = [(t.log_mel, t.patch_ends, t.recipe.logmel.patch_frames) for t in trials]
        for some in pick_batches(trials, self.options.every, self.options.patches, random):
            shifts = random.integers(-_SHIFT, _SHIFT + 1, len(some))
            patches = np.concatenate(
                [
                    shift_bands(gather_patches(log_mel, ends[k : k + 1], frames), int(by))
                    for (log_mel, ends, frames), k, by in zip(
                        (sounds[i] for i, _ in some), (k for _, k in some), shifts, strict=True
                    )
                ]
            )
            wanted = np.stack([labels[i][k] for i, k in some])
            patches, wanted = mix_up(patches, wanted, random)
            yield self._estimate(patches), torch.from_numpy(wanted).to(self.options.device)

    def predict(self, trial: TrialRecord) -> tuple[Tensor, Tensor]:
        """Every so many patches, silent ones too."""
        every, log_mel, frames = self.options.every, trial.log_mel, trial.recipe.logmel.patch_frames
        ends, labels = trial.patch_ends[::every], torch.from_numpy(np.array(trial.labels[::every]))
        parts = [
            self._estimate(gather_patches(log_mel, ends[a : a + _AT_ONCE], frames))
            for a in range(0, len(ends), _AT_ONCE)
        ]
        return torch.cat(parts), labels

    def _estimate(self, patches: NDArray[np.float32]) -> Tensor:
        embeddings = self.encoder(torch.from_numpy(patches).to(self.options.device))
        estimates: Tensor = self.head(self.norm(embeddings))
        return estimates


def shift_bands(patches: NDArray[np.float32], bands: int) -> NDArray[np.float32]:
    """(n, frames, bands) some bands higher or lower, as of a shorter or longer vocal tract."""
    padded = np.pad(patches, ((0, 0), (0, 0), (_SHIFT, _SHIFT)), mode="edge")
    return padded[..., _SHIFT - bands : _SHIFT - bands + patches.shape[-1]]


def mix_up(
    patches: NDArray[np.float32], labels: NDArray[np.float32], random: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Each with a share of another one, labels too (mixup: Zhang et al. 2018)."""
    share = random.beta(_MIXING, _MIXING, len(labels)).astype(np.float32)
    other = random.permutation(len(labels))
    by_patch, by_label = share[:, None, None], share[:, None]
    return (
        by_patch * patches + (1 - by_patch) * patches[other],
        by_label * labels + (1 - by_label) * labels[other],
    )
