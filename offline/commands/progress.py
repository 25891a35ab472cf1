"""How far a long job is: bars with the time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from offline.training.events import (
    CacheFilled,
    EpochDone,
    FoldDone,
    FoldFailed,
    FoldStarted,
    Note,
    Report,
    StepDone,
    TrainingEvent,
    epoch_text,
    failure_text,
    result_text,
)

LOADING: Final = "loading what computes networks"
"""What the first seconds of most commands are spent on."""


@contextmanager
def learning(what: str) -> Iterator[None]:
    """What goes on and for how long already, on a terminal's stderr, below the lines that are printed meanwhile.

    Lines that go elsewhere than to the terminal stay there.
    """
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(
        *columns,
        console=console,
        transient=True,
        redirect_stdout=sys.stdout.isatty(),
        disable=not console.is_terminal,
    ) as bar:
        bar.add_task(what, total=None)
        yield


@contextmanager
def frame_bar(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar over frames on a terminal's stderr, gone at the end; what it gives takes the number of further frames."""
    console = Console(stderr=True)
    with _count_bar(console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task(what, total=total)
        yield lambda frames: bars.advance(task, frames)


@contextmanager
def trial_bar(what: str, total: int, console: Console) -> Iterator[Callable[[str], None]]:
    """A bar over trials, unless there are none; what it gives takes a line about each trial that is done."""
    with _count_bar(console, transient=False, disable=not total) as bars:
        task = bars.add_task(what, total=total)
        yield lambda line: bars.update(task, advance=1, description=line)


class TrialProgress:
    """Frames and trials done, of about `frames` and exactly `trials`: a bar with the time left on a terminal, plain
    lines elsewhere. On stderr.
    """

    def __init__(self, what: str, frames: int, trials: int, console: Console | None = None) -> None:
        self.frames = 0
        self.trials = 0
        self._all_frames = max(frames, 1)
        self._all_trials = trials
        self._console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self._began: tuple[float, int] | None = None
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task(what, total=self._all_frames, rate="")

    @property
    def rate(self) -> float:
        """Frames a second since the first ones were done: what it took to get ready does not count."""
        if self._began is None:
            return 0.0
        began_s, frames = self._began
        return (self.frames - frames) / max(time.monotonic() - began_s, 1e-3)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def advance(self, frames: int) -> None:
        """`frames` more are done."""
        self.frames += frames
        if self._began is None:
            self._began = time.monotonic(), self.frames
        rate = f"{self.rate:.0f} frames/s" if self.rate else ""
        self._bar.update(self._task, completed=min(self.frames, self._all_frames), rate=rate)

    def finish_trial(self, line: str) -> None:
        """One more trial is done, or has failed: tells so in a line."""
        self.trials += 1
        self.print_line(f"[{self.trials}/{self._all_trials}{self._time_left_text()}] {line}")

    def print_line(self, line: str) -> None:
        """A line above the bar."""
        self._console.print(line, markup=False)

    def _time_left_text(self) -> str:
        if self._console.is_terminal or self.trials == self._all_trials or not self.rate:
            return ""
        return f", {_duration_text(max(0, self._all_frames - self.frames) / self.rate)} left"


class TrainingLines:
    """What training says as plain lines on stdout, one for each epoch."""

    def __init__(self) -> None:
        self._epochs: dict[int, int] = {}

    def __call__(self, event: TrainingEvent) -> None:
        """Print what is worth a line."""
        if isinstance(event, FoldStarted):
            self._epochs[event.fold] = event.epochs
            print(f"fold {event.fold}: {event.windows} windows, at most {event.epochs} epochs", flush=True)
        elif isinstance(event, EpochDone):
            print(epoch_text(event, self._epochs.get(event.fold, 0)), flush=True)
        elif isinstance(event, FoldDone):
            print(result_text(event.result), flush=True)
        elif isinstance(event, FoldFailed):
            print(failure_text(event), flush=True)
        elif isinstance(event, Note):
            print(event.text, flush=True)


class TrainingBars:
    """A bar for each fold that is being trained, with the time left if it ran to its last epoch."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[int, TaskID] = {}
        self._epochs: dict[int, int] = {}
        self._steps: dict[int, int] = {}

    def __call__(self, event: TrainingEvent) -> None:
        """Move the bars, print what is worth a line above them."""
        bars = self._progress
        if isinstance(event, Note):
            bars.console.print(event.text, highlight=False, markup=False)
            return
        if isinstance(event, FoldStarted):
            total = event.cached or None
            self._tasks[event.fold] = bars.add_task(
                f"fold {event.fold}", total=total, detail="frozen encoders"
            )
            self._epochs[event.fold] = event.epochs
            return
        if isinstance(event, FoldFailed):
            # It may have failed before it began.
            if event.fold in self._tasks:
                bars.remove_task(self._tasks.pop(event.fold))
            bars.console.print(failure_text(event), highlight=False, markup=False)
            return
        task = self._tasks[event.fold]
        if isinstance(event, CacheFilled):
            bars.advance(task)
        elif isinstance(event, StepDone):
            epochs, done = self._epochs[event.fold], (event.epoch - 1) * event.steps
            detail = f"epoch {event.epoch}/{epochs}, lr {event.rate:.1e}, loss {event.loss:.3f}"
            if self._steps.get(event.fold) != event.steps:
                # What was done before this process began says nothing about how fast it is.
                self._steps[event.fold] = event.steps
                bars.reset(task, total=epochs * event.steps, completed=done, detail=detail)
            bars.update(task, completed=done + event.step, detail=detail)
        elif isinstance(event, EpochDone):
            text = epoch_text(event, self._epochs[event.fold])
            bars.console.print(text, highlight=False, markup=False)
        else:
            bars.remove_task(task)
            bars.console.print(result_text(event.result), highlight=False, markup=False)


@contextmanager
def training_progress() -> Iterator[Report]:
    """Bars on a terminal, lines elsewhere."""
    console = Console(file=sys.stdout)
    if not console.is_terminal:
        yield TrainingLines()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[detail]}"),
    )
    with Progress(*columns, console=console) as progress:
        yield TrainingBars(progress)


def _count_bar(console: Console, *, transient: bool, disable: bool) -> Progress:
    columns = (
        *(TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn()),
        *(TimeElapsedColumn(), TimeRemainingColumn()),
    )
    return Progress(*columns, console=console, transient=transient, disable=disable)


def _duration_text(seconds: float) -> str:
    minutes, hours = round(seconds / 60), seconds / 3600
    if hours >= 2:
        return f"{hours:.0f} h"
    return f"{minutes} min" if minutes >= 2 else f"{seconds:.0f} s"
