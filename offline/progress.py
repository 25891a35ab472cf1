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
        self._began = time.monotonic()
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
    def elapsed_s(self) -> float:
        """Seconds since it was made."""
        return time.monotonic() - self._began

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
        rate = f"{frames / self.elapsed_s:.0f} frames/s" if frames else ""
        self._bar.update(self._task, completed=min(frames, self._all_frames), rate=rate)

    def finish_one(self, line: str) -> None:
        """One more trial is done, or has failed: tells so in a line."""
        self.trials += 1
        self.say(f"[{self.trials}/{self._all_trials}{self._left()}] {line}")

    def say(self, line: str) -> None:
        """A line above the bar."""
        self._console.print(line, markup=False)

    def _left(self) -> str:
        if self._console.is_terminal or self.trials == self._all_trials or not self.frames:
            return ""
        left_s = self.elapsed_s * max(0.0, self._all_frames / self.frames - 1)
        return f", {_span(left_s)} left"


def _span(seconds: float) -> str:
    minutes, hours = round(seconds / 60), seconds / 3600
    if hours >= 2:
        return f"{hours:.0f} h"
    return f"{minutes} min" if minutes >= 2 else f"{seconds:.0f} s"
