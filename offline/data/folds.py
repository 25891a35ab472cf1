"""Folds: the training partition in five parts of whole people, and which part validates (report section 3.3).

The official validation partition is one more part. Fold 0 trains on all five and validates on the official one; fold
k validates on part k - 1 and trains on the rest, the official one included. The split is written to a file and read
back, so that a fold stays the same whatever becomes of the code or of the store.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, Literal, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from models.errors import UserError
from offline.files import reason, write_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

PARTS: Final = 5
FORMAT_VERSION: Final = 1
_WAY_OUT: Final = "give a folds.json that offline-train wrote, or none for a new split in a new run"


class Subject(Protocol):
    """What a split must know of a trial."""

    @property
    def name(self) -> str:
        """The trial's name, its own in the store."""

    @property
    def partition(self) -> str:
        """`train`, `validation` or `test`."""

    @property
    def subject(self) -> str:
        """Who is seen: trials of one subject stay together."""


class Fold(BaseModel):
    """One fold: the names of the trials it trains and validates on."""

    model_config = ConfigDict(frozen=True)

    index: int
    training: tuple[str, ...]
    validation: tuple[str, ...]


class FoldSplit(BaseModel):
    """The parts of the training partition, in order, and the official validation partition: trials' names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = FORMAT_VERSION
    parts: tuple[tuple[str, ...], ...]
    validation: tuple[str, ...]

    @model_validator(mode="after")
    def _check(self) -> FoldSplit:
        names = self.trials
        if len(set(names)) != len(names):
            raise ValueError("a trial is in two parts")
        if not self.parts or not all(self.parts) or not self.validation:
            raise ValueError("a part is empty")
        return self

    @property
    def trials(self) -> tuple[str, ...]:
        """Every trial of the split."""
        return (*(name for part in self.parts for name in part), *self.validation)

    @property
    def folds(self) -> int:
        """How many folds there are: one more than parts."""
        return len(self.parts) + 1

    def fold(self, index: int) -> Fold:
        """Fold `index`. Raises UserError where there is none."""
        if not 0 <= index < self.folds:
            raise UserError(
                f"there is no fold {index}: the training partition has {len(self.parts)} parts of whole people, "
                f"so folds are 0 to {self.folds - 1}"
            )
        parts = (self.validation, *self.parts)
        training = tuple(
            name
            for k, part in enumerate((*self.parts, self.validation))
            for name in part
            if (k + 1) % self.folds != index
        )
        return Fold(index=index, training=training, validation=parts[index])


def split_folds(trials: Iterable[Subject], parts: int = PARTS) -> FoldSplit:
    """Split the `train` partition into `parts` parts of nearly equal trial counts; `test` trials are left out.

    People keep the order of their first trial and are never divided; among all such splits the counts are as equal as
    can be (least sum of squares). Fewer people than `parts` give fewer parts. Raises UserError where a partition is
    missing, or where a person is in both.
    """
    trials = list(trials)
    training = [t for t in trials if t.partition == "train"]
    validation = [t for t in trials if t.partition == "validation"]
    if not trials:
        raise UserError("the store has no trials: fill it with offline-preprocess")
    for partition, found in (("train", training), ("validation", validation)):
        if not found:
            raise UserError(
                f"the store has no trials in the {partition} partition, and training needs both train and validation",
                way_out="preprocess a data set that has both",
            )
    both = {t.subject for t in training} & {t.subject for t in validation}
    if both:
        raise UserError(
            f"subject '{min(both)}' is in both the train and the validation partition: "
            "people must not span parts, see subjects.csv"
        )
    people: dict[str, list[str]] = {}
    for trial in training:
        people.setdefault(trial.subject, []).append(trial.name)
    groups = list(people.values())
    return FoldSplit(
        parts=tuple(
            tuple(name for group in groups[begin:end] for name in group)
            for begin, end in _even_cuts([len(g) for g in groups], min(parts, len(groups)))
        ),
        validation=tuple(t.name for t in validation),
    )


def write_folds(path: Path, split: FoldSplit) -> None:
    """Write a split as JSON, whole or not at all."""
    write_text(path, json.dumps(split.model_dump(mode="json"), indent=1) + "\n")


def read_folds(path: Path) -> FoldSplit:
    """Read a split. Raises UserError where the file is absent or is no sound split."""
    try:
        return FoldSplit.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{path} does not exist", way_out="give a folds.json that offline-train wrote into a run's folder"
        ) from None
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"{path} cannot be read ({reason(e)})", way_out=_WAY_OUT) from e
    except ValidationError as e:
        first = e.errors(include_url=False, include_input=False)[0]
        raise UserError(f"{path} is no sound fold split ({first['msg']})", way_out=_WAY_OUT) from e


def check_split(split: FoldSplit, trials: Iterable[Subject], path: Path) -> None:
    """Hold a split that was read from `path` to the store it is used on.

    Trials that the split does not know are fine (they are left out). Raises UserError where one that it names is
    gone, or where a person spans parts.
    """
    known = {t.name: t for t in trials}
    gone = [name for name in split.trials if name not in known]
    if gone:
        raise UserError(
            f"{path} names the trial '{gone[0]}', which the store has not: use the store it was made for"
        )
    owner: dict[str, int] = {}
    for k, part in enumerate((*split.parts, split.validation)):
        for name in part:
            subject = known[name].subject
            if owner.setdefault(subject, k) != k:
                raise UserError(f"{path} has subject '{subject}' in two parts: use the store it was made for")


def _even_cuts(sizes: Sequence[int], parts: int) -> list[tuple[int, int]]:
    """Cut a row of sizes into `parts` non-empty runs whose sums have the least sum of squares."""
    ends = [0]
    for size in sizes:
        ends.append(ends[-1] + size)
    count = len(sizes)
    cost: list[list[float]] = [[float("inf")] * (count + 1) for _ in range(parts + 1)]
    cut = [[0] * (count + 1) for _ in range(parts + 1)]
    cost[0][0] = 0
    for k in range(1, parts + 1):
        for end in range(k, count + 1):
            for begin in range(k - 1, end):
                total = cost[k - 1][begin] + (ends[end] - ends[begin]) ** 2
                if total < cost[k][end]:
                    cost[k][end], cut[k][end] = total, begin
    runs: list[tuple[int, int]] = []
    end = count
    for k in range(parts, 0, -1):
        runs.append((cut[k][end], end))
        end = cut[k][end]
    return runs[::-1]
