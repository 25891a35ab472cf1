"""The frames whose answer may still change, in order, and the mark below which nothing can. Pure."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class Timed(Protocol):
    """Anything with a media time."""

    @property
    def time_s(self) -> float:
        """Seconds from the source's first frame."""
        ...


T = TypeVar("T", bound=Timed)


@dataclass(frozen=True)
class RevisableWindow(Generic[T]):
    """At most `capacity` frames not yet settled, oldest first, and the mark `settled_until_s`.

    Nothing before the mark can change any more; it never moves back. A frame settles when the mark passes its
    time, or when it is pushed out of the window by a newer one.
    """

    capacity: int
    frames: tuple[T, ...] = ()
    settled_until_s: float = float("-inf")

    def advance(self, settled_until_s: float) -> RevisableWindow[T]:
        """Moves the mark forward; a mark that lies behind changes nothing."""
        return RevisableWindow(self.capacity, self.frames, max(self.settled_until_s, settled_until_s))

    def push(self, frame: T) -> RevisableWindow[T]:
        """Adds the newest frame. Raises ValueError where it is not later than the last."""
        if self.frames and frame.time_s <= self.frames[-1].time_s:
            raise ValueError(f"frame at {frame.time_s} s is not after {self.frames[-1].time_s} s")
        return RevisableWindow(self.capacity, (*self.frames, frame), self.settled_until_s)

    @property
    def ready(self) -> int:
        """How many of the oldest frames have settled."""
        return max(self._passed_by_mark, len(self.frames) - self.capacity)

    @property
    def ended(self) -> bool:
        """Whether no frame will come any more."""
        return self.settled_until_s == float("inf")

    def settle(self, limit: int | None = None) -> tuple[RevisableWindow[T], tuple[T, ...], int]:
        """Takes out, in order, what has settled, at most `limit`; the number says how many of them only
        because the window was full.
        """
        leaving = self.ready if limit is None else min(self.ready, limit)
        rest = RevisableWindow(self.capacity, self.frames[leaving:], self.settled_until_s)
        return rest, self.frames[:leaving], max(0, leaving - self._passed_by_mark)

    @property
    def crowded(self) -> bool:
        """Whether there are more frames that may still change than the window holds.

        They must settle before later words reach them: which words they got would else depend on how busy the
        machine is.
        """
        return len(self.frames) - self.capacity > self._passed_by_mark

    @property
    def _passed_by_mark(self) -> int:
        return self.first_at_or_after(self.settled_until_s)

    def first_at_or_after(self, time_s: float) -> int:
        """Position of the first frame at or after a time; the number of frames where there is none."""
        return bisect_left(self.frames, time_s, key=lambda f: f.time_s)
