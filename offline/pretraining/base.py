"""What every part that is pretrained has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from torch import Tensor, nn

from models.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from offline.data.store import TrialRecord

EncoderName = Literal["visual", "audio", "language"]
ENCODERS: Final[tuple[EncoderName, ...]] = ("visual", "audio", "language")


class PretrainingTask(ABC, nn.Module):
    """An encoder, a head that is thrown away afterwards, and batches of n examples: estimates and labels (n, K)."""

    part: EncoderName
    encoder: nn.Module

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
        """(estimates (n, K), labels (n, K)) of a trial's examples, in eval mode; n may be 0."""


def count_batches(trials: Sequence[TrialRecord], every: int, size: int) -> int:
    """How many batches `pick_batches` gives, about."""
    return max(1, sum(t.facts.annotated for t in trials) // every // size)


def pick_batches(
    trials: Sequence[TrialRecord], every: int, size: int, random: np.random.Generator
) -> list[list[tuple[int, int]]]:
    """(trial, frame) of every so many labelled frames, begun anywhere, in any order, `size` together.

    A rest of less than half a batch is left out. Raises UserError where fewer than two frames are picked.
    """
    begin = int(random.integers(min(every, max(t.frames for t in trials))))
    known = [np.logical_not(np.isnan(t.labels).all(axis=1)) for t in trials]
    picked = [(i, k) for i, mask in enumerate(known) for k in range(begin, len(mask), every) if mask[k]]
    if not any(mask.any() for mask in known):
        raise UserError(
            "no frame of the training people has a label, so there is nothing to learn from",
            way_out="give a store of recordings that have labels",
        )
    if len(picked) < 2:
        raise UserError(
            f"every {every}th frame of the training people leaves {len(picked)} with a label, too few for a "
            "batch: lower it, see --every"
        )
    random.shuffle(picked)
    batches = [picked[begin : begin + size] for begin in range(0, max(len(picked) - size // 2, 1), size)]
    return [batch for batch in batches if len(batch) > 1]
