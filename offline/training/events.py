"""What training says while it runs: events, shown as bars on a terminal and as plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from offline.files import Json


@dataclass(frozen=True)
class FoldStarted:
    """A fold begins or goes on: at most `epochs`, `windows` to train on, `cached` entries to look for first."""

    fold: int
    epochs: int
    windows: int
    cached: int


@dataclass(frozen=True)
class CacheFilled:
    """One more entry of the caches is there."""

    fold: int


@dataclass(frozen=True)
class StepDone:
    """Step `step` of the `steps` of epoch `epoch`, both counted from 1, and its loss."""

    fold: int
    epoch: int
    step: int
    steps: int
    loss: float
    rate: float


@dataclass(frozen=True)
class EpochDone:
    """An epoch's line of history; `best` is the best mean validation CCC so far."""

    fold: int
    line: Json
    best: float
    release: str | None
    stopped: str | None


@dataclass(frozen=True)
class FoldDone:
    """A fold is finished: what its `result.json` says."""

    fold: int
    result: Json


@dataclass(frozen=True)
class FoldFailed:
    """A fold ended before it was finished: why, in one line. A `fault` of ours has all that is known in `trace`."""

    fold: int
    reason: str
    fault: bool = False
    trace: str = ""


@dataclass(frozen=True)
class Note:
    """A line that the user should read."""

    text: str


TrainingEvent = FoldStarted | CacheFilled | StepDone | EpochDone | FoldDone | FoldFailed | Note


class Display(Protocol):
    """Shows events as they come."""

    def __call__(self, event: TrainingEvent) -> None:
        """Show one event."""


def epoch_text(event: EpochDone, epochs: int) -> str:
    """An epoch in one line."""
    line = event.line
    cccs = ", ".join(f"{t} {value:.3f}" for t, value in line["validation_ccc"].items())
    text = (
        f"fold {event.fold}: epoch {line['epoch']}/{epochs}, phase {line['phase']}, lr {line['learning_rate']:.1e}, "
        f"loss {line['loss']:.3f}, CCC {cccs}{' (best)' if line['best'] else ''}, {line['seconds']:.1f} s"
    )
    return text if event.release is None else f"{text}; {event.release} is released"


def result_text(result: Json) -> str:
    """A finished fold in one line."""
    cccs = ", ".join(f"{t} {value:.3f}" for t, value in result["validation_ccc"].items())
    return (
        f"fold {result['fold']}: finished ({result['stopped']}) after {result['epochs']} epochs, "
        f"best epoch {result['best_epoch']}, validation CCC {cccs}"
    )


def failure_text(event: FoldFailed) -> str:
    """Why a fold failed, in one line; of a fault of ours all that is known."""
    return f"fold {event.fold}: {event.trace.rstrip()}" if event.trace else event.reason


class LineDisplay:
    """Plain lines: one for each epoch."""

    def __init__(self) -> None:
        self._epochs: dict[int, int] = {}

    def __call__(self, event: TrainingEvent) -> None:
        """Print what is worth a line."""
        if isinstance(event, FoldStarted):
            self._epochs[event.fold] = event.epochs
            self._print(f"fold {event.fold}: {event.windows} windows, at most {event.epochs} epochs")
        elif isinstance(event, EpochDone):
            self._print(epoch_text(event, self._epochs.get(event.fold, 0)))
        elif isinstance(event, FoldDone):
            self._print(result_text(event.result))
        elif isinstance(event, FoldFailed):
            self._print(failure_text(event))
        elif isinstance(event, Note):
            self._print(event.text)

    def _print(self, text: str) -> None:
        print(text, flush=True)


class TerminalDisplay:
    """A bar for each fold that is being trained, with the time left if it ran to its last epoch."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[int, TaskID] = {}
        self._epochs: dict[int, int] = {}
        self._steps: dict[int, int] = {}

    def __call__(self, event: TrainingEvent) -> None:
        """Move the bars, print what is worth a line above them."""
        show = self._progress
        if isinstance(event, Note):
            show.console.print(event.text, highlight=False, markup=False)
            return
        if isinstance(event, FoldStarted):
            total = event.cached or None
            self._tasks[event.fold] = show.add_task(
                f"fold {event.fold}", total=total, detail="frozen encoders"
            )
            self._epochs[event.fold] = event.epochs
            return
        if isinstance(event, FoldFailed):
            # It may have failed before it began.
            if event.fold in self._tasks:
                show.remove_task(self._tasks.pop(event.fold))
            show.console.print(failure_text(event), highlight=False, markup=False)
            return
        task = self._tasks[event.fold]
        if isinstance(event, CacheFilled):
            show.advance(task)
        elif isinstance(event, StepDone):
            epochs, done = self._epochs[event.fold], (event.epoch - 1) * event.steps
            detail = f"epoch {event.epoch}/{epochs}, lr {event.rate:.1e}, loss {event.loss:.3f}"
            if self._steps.get(event.fold) != event.steps:
                # What was done before this process began says nothing about how fast it is.
                self._steps[event.fold] = event.steps
                show.reset(task, total=epochs * event.steps, completed=done, detail=detail)
            show.update(task, completed=done + event.step, detail=detail)
        elif isinstance(event, EpochDone):
            text = epoch_text(event, self._epochs[event.fold])
            show.console.print(text, highlight=False, markup=False)
        else:
            show.remove_task(task)
            show.console.print(result_text(event.result), highlight=False, markup=False)


@contextmanager
def open_display() -> Iterator[Display]:
    """Bars on a terminal, lines elsewhere."""
    console = Console(file=sys.stdout)
    if not console.is_terminal:
        yield LineDisplay()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[detail]}"),
    )
    with Progress(*columns, console=console) as progress:
        yield TerminalDisplay(progress)
