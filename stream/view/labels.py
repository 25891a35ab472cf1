"""A recording's labels, where there are any: shown beside the estimates, and how well they agree."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

from models.centering import ccc
from models.errors import UserError
from models.spec import TARGETS, Target
from stream.messages import Affect, Estimate

UNLABELLED = -5.0


@dataclass(frozen=True)
class LabelledTrajectory:
    """Valence and arousal of each frame from 0 on; None where a frame is not labelled."""

    frames: tuple[Affect | None, ...]

    @classmethod
    def read(cls, path: Path) -> LabelledTrajectory:
        """Reads Aff-Wild2's label form: a header `valence,arousal`, a row per frame, -5 for none.

        Raises UserError for a file that is missing or of another form.
        """
        try:
            with path.open(newline="") as lines:
                header, *rows = list(csv.reader(lines))
            if header != list(TARGETS):
                raise ValueError
            return cls(tuple(_parse_affect(float(v), float(a)) for v, a in rows))
        except OSError as error:
            raise UserError(f"cannot read the labels {path}: {error.strerror}") from error
        except ValueError as error:
            raise UserError(
                f"{path} is not a label file: a header valence,arousal and a row per frame"
            ) from error

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


def _parse_affect(valence: float, arousal: float) -> Affect | None:
    if valence == UNLABELLED and arousal == UNLABELLED:
        return None
    if not (math.isfinite(valence) and math.isfinite(arousal)):
        raise ValueError
    return Affect(valence, arousal)
