"""Times of capture on LSL's clock, and LSL's times on the wall clock."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from stream.messages import Estimate

    Clock = Callable[[], float]

CLOSE_S: Final = 20e-6
"""Two readings of LSL's clock this close around one of the wall clock are close enough."""

TRIES: Final = 5

STEP_S: Final = 0.01
"""More than clocks drift apart between two frames: the wall clock was set."""

FORGET_S: Final = 30.0
"""An offset from before a step that served no frame for so long is forgotten."""

MOST_OFFSETS: Final = 8

KEPT_STAMPS: Final = 2048
"""Frames that may wait to settle, and more."""

TREMBLE_S: Final = 1e-3
"""Stamps do not go back for less: two readings of clocks are never quite the same."""


def clock_offset(lsl_clock: Clock, wall_clock: Clock) -> float:
    """What to add to a time on the wall clock to have it on LSL's, in seconds: of a few readings that were taken
    close together, the closest.
    """
    narrowest, offset = float("inf"), 0.0
    for _ in range(TRIES):
        before, wall, after = lsl_clock(), wall_clock(), lsl_clock()
        if after - before < narrowest:
            narrowest, offset = after - before, (before + after) / 2 - wall
        if narrowest <= CLOSE_S:
            break
    return offset


@dataclass
class _Offset:
    """One offset between the clocks, and when (LSL's clock) it last served."""

    seconds: float
    served_at: float


class CaptureClock:
    """Stamps estimates with the time of their frame's capture on LSL's clock, which nobody sets.

    `Estimate.captured_at` is a time on the wall clock, which may have been set between capture and estimate. So
    several offsets may be right at a time, one for frames from before a step and one for those from after; of these,
    a frame's is the one that puts it where its media time, which no step touches, lets expect it. A settled estimate
    has its provisional one's stamp. Both clocks give seconds.
    """

    def __init__(self, lsl_clock: Clock, wall_clock: Clock = time.time) -> None:
        self._lsl_clock = lsl_clock
        self._wall_clock = wall_clock
        self._offsets: list[_Offset] = []
        self._last: tuple[float, float] | None = None
        self._stamps: OrderedDict[int, float] = OrderedDict()
        self._measure()

    def stamp(self, estimate: Estimate) -> float:
        """The time of capture, in seconds on LSL's clock; call it as estimates come, in their order."""
        if estimate.settled and (known := self._stamps.pop(estimate.frame, None)) is not None:
            return known
        self._measure()
        stamp = self._place(estimate)
        if self._last is not None and 0 < self._last[1] - stamp < TREMBLE_S:
            stamp = self._last[1]
        if not estimate.settled:
            self._last = (estimate.time_s, stamp)
            self._stamps[estimate.frame] = stamp
            if len(self._stamps) > KEPT_STAMPS:
                self._stamps.popitem(last=False)
        return stamp

    def _measure(self) -> None:
        """Follows the clocks as they drift, and notes a step."""
        seconds, now = clock_offset(self._lsl_clock, self._wall_clock), self._lsl_clock()
        if self._offsets and abs(self._offsets[-1].seconds - seconds) < STEP_S:
            self._offsets[-1].seconds = seconds
        else:
            self._offsets.append(_Offset(seconds, now))
        newest = self._offsets[-1]
        kept = [o for o in self._offsets if o is newest or now - o.served_at < FORGET_S]
        self._offsets = kept[-MOST_OFFSETS:]

    def _place(self, estimate: Estimate) -> float:
        expected = now = self._lsl_clock()
        if self._last is not None:
            expected = self._last[1] + estimate.time_s - self._last[0]
        offset = min(self._offsets, key=lambda o: abs(estimate.captured_at + o.seconds - expected))
        offset.served_at = now
        return estimate.captured_at + offset.seconds
