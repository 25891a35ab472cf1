"""Folds: five even parts of whole people, in order, the same for ever."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import UserError
from offline.data.folds import FoldSplit, check_split, read_folds, split_folds, write_folds

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Trial:
    name: str
    partition: str
    subject: str


def trials_of(people: list[int], validation: int = 2) -> list[Trial]:
    """One training person for each number, with that many trials, and some of other people to validate on."""
    training = [Trial(f"t{p}-{i}", "train", f"p{p}") for p, count in enumerate(people) for i in range(count)]
    return [*training, *(Trial(f"v{i}", "validation", f"w{i}") for i in range(validation))]


people = st.lists(st.integers(1, 4), min_size=1, max_size=25)


@given(people)
def test_every_trial_is_in_exactly_one_part_and_people_are_whole(counts: list[int]) -> None:
    trials = trials_of(counts)
    split = split_folds(trials)
    assert sorted(split.trials) == sorted(t.name for t in trials)
    owner = {t.name: t.subject for t in trials}
    parts = [{owner[n] for n in part} for part in (*split.parts, split.validation)]
    assert sum(len(p) for p in parts) == len(set().union(*parts))


@given(people)
def test_parts_keep_the_order_and_differ_by_less_than_their_largest_people(counts: list[int]) -> None:
    split = split_folds(trials_of(counts))
    assert [n for part in split.parts for n in part] == [t.name for t in trials_of(counts, 0)]
    assert len(split.parts) == min(5, len(counts))
    # Moving one person across a border would not make the two parts more equal.
    for k, (left, right) in enumerate(pairwise(split.parts)):
        last = sum(n.split("-")[0] == left[-1].split("-")[0] for n in left)
        first = sum(n.split("-")[0] == right[0].split("-")[0] for n in right)
        assert len(left) - len(right) <= last, k
        assert len(right) - len(left) <= first, k


@given(people)
def test_each_fold_trains_on_all_that_it_does_not_validate_on(counts: list[int]) -> None:
    split = split_folds(trials_of(counts))
    validated: list[Any] = []
    for k in range(split.folds):
        fold = split.fold(k)
        assert sorted((*fold.training, *fold.validation)) == sorted(split.trials)
        validated += fold.validation
    assert sorted(validated) == sorted(split.trials)


def test_fold_zero_is_the_official_split() -> None:
    split = split_folds(trials_of([1] * 10))
    fold = split.fold(0)
    assert fold.validation == ("v0", "v1")
    assert fold.training == tuple(f"t{p}-0" for p in range(10))
    assert split.fold(1).validation == ("t0-0", "t1-0")


def test_the_report_s_counts() -> None:
    """341 training trials of as many people: four parts of 68 and one of 69."""
    split = split_folds(trials_of([1] * 341, 71))
    assert sorted(len(p) for p in split.parts) == [68, 68, 68, 68, 69]
    assert split.folds == 6


def test_a_person_s_trials_stay_together_wherever_they_are_listed() -> None:
    trials = [Trial(f"t{i}", "train", f"p{i % 5}") for i in range(10)]
    split = split_folds([*trials, Trial("v", "validation", "w")])
    assert split.parts == tuple((f"t{i}", f"t{i + 5}") for i in range(5))


def test_test_trials_are_left_out() -> None:
    split = split_folds([*trials_of([1, 1]), Trial("secret", "test", "x")])
    assert "secret" not in split.trials


@pytest.mark.parametrize(
    ("trials", "message"),
    [
        ([], "no trials"),
        ([Trial("a", "train", "p")], "validation partition"),
        ([Trial("a", "validation", "p")], "train partition"),
        ([Trial("a", "train", "p"), Trial("b", "validation", "p")], "subject 'p'"),
    ],
)
def test_a_store_that_cannot_be_split_is_refused(trials: list[Trial], message: str) -> None:
    with pytest.raises(UserError, match=message):
        split_folds(trials)


def test_a_split_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    split = split_folds(trials_of([2, 1, 3, 1, 1, 2]))
    write_folds(tmp_path / "folds.json", split)
    assert read_folds(tmp_path / "folds.json") == split


def test_a_damaged_split_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "folds.json"
    with pytest.raises(UserError, match="does not exist"):
        read_folds(path)
    for text in (
        "",
        "{}",
        '{"format_version":1,"parts":[["a"],["a"]],"validation":["b"]}',
        '{"parts":[[]],"validation":[]}',
    ):
        path.write_text(text)
        with pytest.raises(UserError, match="no sound fold split"):
            read_folds(path)


def test_a_split_is_held_to_its_store(tmp_path: Path) -> None:
    trials = trials_of([1] * 6)
    split = split_folds(trials)
    check_split(split, [*trials, Trial("new", "train", "new")], tmp_path)
    with pytest.raises(UserError, match="'t0-0'"):
        check_split(split, trials[1:], tmp_path)
    mixed = FoldSplit(parts=(("a",), ("b",)), validation=("c",))
    with pytest.raises(UserError, match="two parts"):
        check_split(mixed, [Trial(n, "train", "one") for n in "abc"], tmp_path)


def test_a_fold_that_is_not_there_is_refused() -> None:
    with pytest.raises(UserError, match="folds are 0 to 2"):
        split_folds(trials_of([1, 1])).fold(5)
