"""What a performed corpus is to contain: people, trials, and their valence and arousal over time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

import numpy as np

from models.errors import UserError
from offline.performer.trajectory import Series, random_trajectory

Partition = Literal["train", "validation", "test"]

_SHORTEST_TRIAL_S: Final = 2.0
_LONGEST_TRIAL_H: Final = 24


@dataclass(frozen=True)
class PlannedTrial:
    """One recording of the corpus."""

    number: int
    name: str
    partition: Partition
    frames: int


@dataclass(frozen=True)
class CorpusPlan:
    """A corpus before it is made: everything that its content depends on.

    `minutes` are shared evenly by the `people` of training and validation, one trial each; a sixth of them (at
    least one) is the validation partition, as one fold in six is. `test_people` come on top, with trials as long.
    Who people are and what they feel depends on `seed` and their number. The demo bundle was trained on the people
    of seeds 7 and 101. Valence and arousal change within about `time_constant_s`.
    Raises UserError for numbers that make no corpus.
    """

    people: int = 24
    minutes: float = 20.0
    seed: int = 1
    test_people: int = 0
    time_constant_s: float = 7.0
    frame_rate: float = 30.0
    width: int = 320
    height: int = 240

    def __post_init__(self) -> None:
        if self.people < 2:
            raise UserError(
                f"a corpus needs 2 people or more (one to validate on), not {self.people}: raise --people"
            )
        if self.test_people < 0 or self.seed < 0:
            raise UserError("--test-people and --seed cannot be negative: give 0 or more")
        if not 0.5 <= self.time_constant_s <= 600:
            raise UserError(f"--time-constant must be 0.5 to 600 seconds, not {self.time_constant_s:g}")
        if not math.isfinite(self.minutes):
            raise UserError(f"--minutes must be a finite number, not {self.minutes}")
        if self.minutes * 60 < _SHORTEST_TRIAL_S * self.people:
            raise UserError(
                f"{self.minutes:g} minutes are too few for {self.people} people: at least {_SHORTEST_TRIAL_S:g} "
                f"seconds each, --minutes {self.people * _SHORTEST_TRIAL_S / 60:.2g}"
            )
        if self.minutes > _LONGEST_TRIAL_H * 60 * self.people:
            raise UserError(
                f"{self.minutes:g} minutes are too many for {self.people} people: at most {_LONGEST_TRIAL_H} hours "
                f"each, --minutes {_LONGEST_TRIAL_H * 60 * self.people}"
            )

    @cached_property
    def trials(self) -> tuple[PlannedTrial, ...]:
        """All trials, in order of their numbers."""
        frames = round(self.minutes * 60 * self.frame_rate / self.people)
        validation = max(1, round(self.people / 6))
        first_validation = self.people - validation
        partitions: list[Partition] = [
            "train" if number < first_validation else "validation" if number < self.people else "test"
            for number in range(self.people + self.test_people)
        ]
        return tuple(
            PlannedTrial(number, f"performer{number:03d}", partition, frames)
            for number, partition in enumerate(partitions)
        )

    def labels(self, trial: PlannedTrial) -> Series:
        """The trial's valence and arousal, (frames, 2)."""
        rng = np.random.default_rng([self.seed, trial.number, 2])
        return random_trajectory(rng, trial.frames, self.frame_rate, time_constant_s=self.time_constant_s)
