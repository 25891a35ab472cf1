"""What training shows: bars on a terminal, lines elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.progress import Progress, TextColumn

from offline.display import FoldFailed, FoldStarted, LineDisplay, TerminalDisplay


@pytest.fixture
def progress() -> Progress:
    """Bars that nobody looks at."""
    return Progress(TextColumn("{task.description}"), console=Console(file=io.StringIO(), width=200))


def told(progress: Progress) -> str:
    file = progress.console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_a_failure_is_one_line_and_a_fault_of_ours_is_told_whole(capsys: pytest.CaptureFixture[str]) -> None:
    show = LineDisplay()
    show(FoldFailed(1, "fold 1: the store has no sound"))
    show(FoldFailed(3, "fold 3: ValueError: no", fault=True, trace="Traceback:\n  here\nValueError: no\n"))
    assert capsys.readouterr().out == (
        "fold 1: the store has no sound\nfold 3: Traceback:\n  here\nValueError: no\n"
    )


def test_a_fold_that_failed_has_no_bar_any_more(progress: Progress) -> None:
    show = TerminalDisplay(progress)
    for fold in (0, 1):
        show(FoldStarted(fold, epochs=4, windows=20, cached=0))
    show(FoldFailed(0, "fold 0: the loss is nan"))
    show(FoldFailed(5, "fold 5: it never began"))
    assert [task.description for task in progress.tasks] == ["fold 1"]
    assert told(progress) == "fold 0: the loss is nan\nfold 5: it never began\n"
