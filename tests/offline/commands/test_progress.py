"""What long jobs show: bars on a terminal, lines elsewhere."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console
from rich.progress import Progress, TextColumn

from offline.commands.progress import TrainingBars, TrainingLines
from offline.training.events import (
    CacheFilled,
    EpochDone,
    FoldFailed,
    FoldStarted,
    StepDone,
)
from tests.commands import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def progress(clock: Clock) -> Progress:
    """Bars that nobody looks at."""
    console = Console(file=io.StringIO(), width=200)
    return Progress(TextColumn("{task.description}"), console=console, get_time=clock)


def told(progress: Progress) -> str:
    file = progress.console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def step(epoch: int, number: int) -> StepDone:
    return StepDone(0, epoch, number, steps=10, loss=0.5, rate=1e-3)


def epoch_done(epoch: int) -> EpochDone:
    line: dict[str, Any] = {
        "epoch": epoch,
        "phase": 0,
        "learning_rate": 1e-3,
        "loss": 0.5,
        "validation_ccc": {"valence": 0.4},
        "best": True,
        "seconds": 20.0,
    }
    return EpochDone(0, line, best=0.4, release=None, stopped=None)


def test_a_resumed_fold_goes_on_from_the_epoch_where_it_stands(progress: Progress, clock: Clock) -> None:
    tell = TrainingBars(progress)
    tell(FoldStarted(0, epochs=8, windows=20, cached=3))
    for number in (1, 2, 3):
        clock.now_s += 2
        tell(step(6, number))
    (task,) = progress.tasks
    assert task.fields["detail"].startswith("epoch 6/8,")
    assert (task.completed, task.total) == (53, 80)
    assert task.time_remaining == 2 * (80 - 53), "no step of the epochs before was done just now"
    tell(epoch_done(6))
    clock.now_s += 2
    tell(step(7, 1))
    assert task.fields["detail"].startswith("epoch 7/8,")
    assert task.completed == 61


def test_a_bar_begins_anew_when_what_is_cached_is_there(progress: Progress) -> None:
    """Even where there are as many entries as steps."""
    tell = TrainingBars(progress)
    tell(FoldStarted(0, epochs=2, windows=20, cached=20))
    for _ in range(20):
        tell(CacheFilled(0))
    assert progress.finished
    tell(step(1, 1))
    assert (progress.tasks[0].completed, progress.finished) == (1, False)


def test_a_failure_is_one_line_and_a_fault_of_ours_is_told_whole(capsys: pytest.CaptureFixture[str]) -> None:
    tell = TrainingLines()
    tell(FoldFailed(1, "fold 1: the store has no sound"))
    tell(FoldFailed(3, "fold 3: ValueError: no", fault=True, trace="Traceback:\n  here\nValueError: no\n"))
    assert capsys.readouterr().out == (
        "fold 1: the store has no sound\nfold 3: Traceback:\n  here\nValueError: no\n"
    )


def test_a_fold_that_failed_has_no_bar_any_more(progress: Progress) -> None:
    tell = TrainingBars(progress)
    for fold in (0, 1):
        tell(FoldStarted(fold, epochs=4, windows=20, cached=0))
    tell(FoldFailed(0, "fold 0: the loss is nan"))
    tell(FoldFailed(5, "fold 5: it never began"))
    assert [task.description for task in progress.tasks] == ["fold 1"]
    assert told(progress) == "fold 0: the loss is nan\nfold 5: it never began\n"


LEARNER = """
    from offline.commands.progress import frame_bar, learning

    with learning("pretraining on faces"):
        print("faces: epoch 1/2")
    with frame_bar("judging faces", 7) as advance:
        advance(7)
"""


@pytest.mark.parametrize("terminal", [False, True])
def test_what_goes_on_and_for_how_long_is_shown_beside_the_lines_that_are_printed(
    tmp_path: Path, terminal: bool
) -> None:
    path = tmp_path / "learner"
    path.write_text(textwrap.dedent(LEARNER))
    environment = {name: text for name, text in os.environ.items() if name not in ("NO_COLOR", "TERM")}
    forced = {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "100"} if terminal else {}
    done = subprocess.run(
        [sys.executable, path],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=environment | forced | {"PYTHONPATH": str(REPOSITORY)},
    )
    assert done.stdout == "faces: epoch 1/2\n", "a file takes the lines, whatever the terminal shows"
    if not terminal:
        assert done.stderr == ""
        return
    for shown in ("pretraining on faces", "judging faces", "7/7", "0:00:0"):
        assert shown in done.stderr
