"""How far a long job is: a bar with the time left on a terminal, plain lines elsewhere. On stderr."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn


class FrameProgress:
    """Frames and trials done, of about `frames` and exactly `trials`."""

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

    def advance_to(self, frames: int) -> None:
        """So many frames are done."""
        self.frames = frames
        if frames and self._began is None:
            self._began = time.monotonic(), frames
        rate = f"{self.rate:.0f} frames/s" if self.rate else ""
        self._bar.update(self._task, completed=min(frames, self._all_frames), rate=rate)

    def finish_one(self, line: str) -> None:
        """One more trial is done, or has failed: tells so in a line."""
        self.trials += 1
        self.say(f"[{self.trials}/{self._all_trials}{self._left()}] {line}")

    def say(self, line: str) -> None:
        """A line above the bar."""
        self._console.print(line, markup=False)

    def _left(self) -> str:
        if self._console.is_terminal or self.trials == self._all_trials or not self.rate:
            return ""
        return f", {_span(max(0, self._all_frames - self.frames) / self.rate)} left"


def _span(seconds: float) -> str:
    minutes, hours = round(seconds / 60), seconds / 3600
    if hours >= 2:
        return f"{hours:.0f} h"
    return f"{minutes} min" if minutes >= 2 else f"{seconds:.0f} s"
