"""How busy the stages of a live engine are, and the rung of the ladder that follows from it."""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING

from stream.flow.ladder import AUTO, FULL, Ladder, Rung, find_rung

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Scheduler:
    """Measures how long the stages work, and chooses the highest rung on which the engine keeps up.

    `budget` is `auto` or the name of the rung to stay on (UserError for another); a source that is not live
    stays at `full`. `clock` gives seconds. For one event loop, not for threads.
    """

    def __init__(
        self,
        budget: str = AUTO,
        *,
        live: bool,
        ladder: Ladder | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pinned = find_rung(budget) if live else FULL
        self.budget = self._pinned.name if self._pinned else AUTO
        self._ladder = ladder or Ladder()
        self._state = self._ladder.initial_state()
        self._rung = self._pinned or FULL
        self._clock = clock
        self._reviewed_at = clock()
        self._busy_s: defaultdict[str, float] = defaultdict(float)
        self._since: dict[str, float] = {}
        self._dropped = 0
        self.load = 0.0

    @property
    def rung(self) -> Rung:
        """The rung for the next frame."""
        return self._rung

    @property
    def degraded(self) -> str | None:
        """The rung's name, None at full."""
        return None if self._rung is FULL else self._rung.name

    @contextmanager
    def busy(self, stage: str) -> Iterator[None]:
        """Around a stage's work on one frame."""
        self._since[stage] = self._clock()
        try:
            yield
        finally:
            self._add_busy_time(stage)
            del self._since[stage]

    def review(self, dropped: int) -> bool:
        """Judges the load since the last review, given the frames dropped so far. True where the rung changed.

        Where any were dropped, the machine did not keep up, however busy it seems.
        """
        for stage in self._since:
            self._add_busy_time(stage)
        now_s = self._clock()
        elapsed_s = now_s - self._reviewed_at
        if elapsed_s <= 0:
            return False
        self.load = max(self._busy_s.values(), default=0.0) / elapsed_s
        if dropped > self._dropped:
            self.load = max(self.load, 1.0)
        self._reviewed_at, self._dropped = now_s, dropped
        self._busy_s.clear()
        if self._pinned is not None:
            return False
        before = self._rung
        self._state, self._rung = self._ladder.step(self._state, self.load)
        return self._rung is not before

    def _add_busy_time(self, stage: str) -> None:
        now_s = self._clock()
        self._busy_s[stage] += now_s - self._since[stage]
        self._since[stage] = now_s
