"""Several folds, in turn or side by side: one that fails costs the others nothing, and the end names it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest

from models.errors import UserError
from offline.training.events import FoldFailed, Note, TrainingEvent
from offline.training.workers import run_folds, run_in_turn

Run = Callable[[Path, Sequence[int], Callable[..., None], Callable[[TrainingEvent], None]], None]


def in_turn(
    folder: Path, folds: Sequence[int], job: Callable[..., None], report: Callable[[TrainingEvent], None]
) -> None:
    run_in_turn(folder, folds, job, report)  # type: ignore[arg-type]


def side_by_side(
    folder: Path, folds: Sequence[int], job: Callable[..., None], report: Callable[[TrainingEvent], None]
) -> None:
    run_folds(partial(Path, folder), folds, job, report, workers=2)  # type: ignore[arg-type]


def train(folder: Path, fold: int, report: Callable[[TrainingEvent], None]) -> None:
    """Folds 1 and 3 fail: one by what it learns from, one by a fault of ours."""
    report(Note(f"fold {fold} begins"))
    if fold == 1:
        raise UserError("the store has no sound")
    if fold == 3:
        raise ZeroDivisionError("a fault\nof ours")
    (folder / str(fold)).touch()


def die(folder: Path, fold: int, report: Callable[[TrainingEvent], None]) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("run", [in_turn, side_by_side])
def test_the_others_go_on_and_the_end_names_those_that_failed(run: Run, tmp_path: Path) -> None:
    events: list[TrainingEvent] = []
    with pytest.raises(UserError) as ended:
        run(tmp_path, (1, 3, 4), train, events.append)
    assert {p.name for p in tmp_path.iterdir()} == {"4"}
    failed = {e.fold: e for e in events if isinstance(e, FoldFailed)}
    assert {fold: e.reason for fold, e in failed.items()} == {
        1: "fold 1: the store has no sound",
        3: "fold 3: ZeroDivisionError: a fault of ours",
    }
    assert "Traceback" in failed[3].trace
    assert not failed[1].trace
    first = next(iter(failed.values()))
    way_out = "; continue with --resume" if first.fault else ""
    assert str(ended.value) == f"2 of 3 folds failed (1, 3), the first: {first.reason}{way_out}"


def test_nothing_is_said_where_none_fails(tmp_path: Path) -> None:
    events: list[TrainingEvent] = []
    in_turn(tmp_path, [0, 2], train, events.append)
    assert events == [Note("fold 0 begins"), Note("fold 2 begins")]


def test_a_process_that_dies_fails_its_fold_alone(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"1 of 1 folds failed \(4\), .*died \(-9\); continue with --resume"):
        side_by_side(tmp_path, [4], die, lambda event: None)
