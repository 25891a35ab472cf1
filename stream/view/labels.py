"""A recording's labels, where there are any: shown beside the estimates, and how well they agree."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.centering import ccc
from models.labels import read_labels
from models.spec import TARGETS, Target
from stream.messages import Affect, Estimate

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class LabelledTrajectory:
    """Valence and arousal of each frame from 0 on; None where a frame is not labelled."""

    frames: tuple[Affect | None, ...]

    @classmethod
    def read(cls, path: Path) -> LabelledTrajectory:
        """Reads a label file in Aff-Wild2's form. Raises UserError, as `models.labels.read_labels` does."""
        rows = read_labels(path).tolist()
        return cls(
            tuple(None if math.isnan(valence) else Affect(valence, arousal) for valence, arousal in rows)
        )

    def at(self, frame: int) -> Affect | None:
        """The label of a frame, None where it has none."""
        return self.frames[frame] if 0 <= frame < len(self.frames) else None


class Agreement:
    """How well settled estimates agree with a recording's labels; grows with its labelled frames."""

    def __init__(self, labels: LabelledTrajectory) -> None:
        self.labels = labels
        self._pairs: list[tuple[Affect, Affect]] = []

    def take(self, estimate: Estimate) -> None:
        """Takes a settled estimate in; frames without a label do not count."""
        label = self.labels.at(estimate.frame)
        if label is not None:
            self._pairs.append((estimate.value, label))

    def ccc(self) -> dict[Target, float] | None:
        """CCC over all frames so far, per target; None before there are two."""
        if len(self._pairs) < 2:
            return None
        return {
            t: ccc(
                [getattr(estimate, t) for estimate, _ in self._pairs],
                [getattr(label, t) for _, label in self._pairs],
            )
            for t in TARGETS
        }
