"""Which trials are composed: how many, how long, of which part of the material. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from models.errors import UserError

if TYPE_CHECKING:
    from offline.data.store import Partition

TRAINING_PARTS: Final = 5
"""As many as there are folds but for the one that the validation partition makes."""


@dataclass(frozen=True)
class ComposePlan:
    """How much is composed: `minutes` of all of training and validation together, `test_minutes` further ones, in
    trials of `trial_s` seconds. Raises UserError for a plan that gives no trial.
    """

    minutes: float = 72.0
    test_minutes: float = 8.0
    trial_s: float = 60.0
    seed: int = 1

    def __post_init__(self) -> None:
        if not (self.trial_s >= 10 and self.minutes * 60 >= self.trial_s * (TRAINING_PARTS + 1)):
            raise UserError(
                f"--minutes {self.minutes:g} with trials of {self.trial_s:g} s are fewer than {TRAINING_PARTS + 1} "
                "trials of at least 10 s: one for each part is the least"
            )

    @property
    def trials(self) -> tuple[ComposedTrial, ...]:
        """All trials, part by part, the test trials last."""
        each = round(self.minutes * 60 / self.trial_s / (TRAINING_PARTS + 1))
        found = []
        for part in range(TRAINING_PARTS + 1):
            partition: Partition = "train" if part < TRAINING_PARTS else "validation"
            found += [ComposedTrial(part, number, partition) for number in range(each)]
        tests = round(self.test_minutes * 60 / self.trial_s)
        return (*found, *(ComposedTrial(TRAINING_PARTS + 1, number, "test") for number in range(tests)))


@dataclass(frozen=True)
class ComposedTrial:
    """One trial: whose material it is composed of (`part`), and its number in the part."""

    part: int
    number: int
    partition: Partition

    @property
    def name(self) -> str:
        """Its own in the store."""
        return f"composed-{self.part}-{self.number:03d}"

    @property
    def subject(self) -> str:
        """Everyone of a part counts as one person: parts have nothing in common, trials of a part may."""
        return f"part-{self.part}"
