"""What every part that is pretrained has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Final, Literal

import numpy as np
from torch import Tensor, nn

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
