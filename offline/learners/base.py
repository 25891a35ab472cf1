"""What every part that is pretrained has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Final, Literal

import numpy as np
from torch import Tensor, nn

from models.errors import UserError
from offline.store import TrialRecord

Part = Literal["visual", "audio", "language"]
PARTS: Final[tuple[Part, ...]] = ("visual", "audio", "language")


class Learner(ABC, nn.Module):
    """A part and what it learns with: batches to (estimates (B, T, K), labels (B, T, K))."""

    part: Part
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


def pick_frames(
    trials: Sequence[TrialRecord], every: int, random: np.random.Generator
) -> list[tuple[int, int]]:
    """(trial, frame) of every so many labelled frames, begun anywhere."""
    begin = int(random.integers(every))
    known = [np.logical_not(np.isnan(t.labels).all(axis=1)) for t in trials]
    picked = [(i, k) for i, mask in enumerate(known) for k in range(begin, len(mask), every) if mask[k]]
    if not picked:
        raise UserError("no frame of the training people has a label: nothing to learn from")
    return picked
