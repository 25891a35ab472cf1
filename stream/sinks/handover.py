"""From the engine's event loop to whoever takes estimates in another thread, or on another event loop."""

from __future__ import annotations

import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Final, Literal

from stream.flow.changes import Changes
from stream.sinks.base import QuietSink

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stream.messages import Estimate, Status

Kind = Literal["all", "provisional", "settled"]
"""Which estimates somebody wants."""

ROOM: Final = 128
"""Estimates that may wait before a recording is held back: two seconds of both kinds."""

MOST_SETTLED: Final = 1024
"""Settled estimates that may wait. What was held back may still settle a whole window at once, and twice in a row: a
recording never reaches this.
"""

MOST_PROVISIONAL: Final = 256
"""Provisional estimates that may wait: more than two of a recording's largest batches beyond `ROOM`."""


class Ended(Exception):
    """The run is over and every estimate of it was taken."""


class Handover(QuietSink):
    """A sink that keeps estimates until they are taken: in order, bounded, by one taker on any thread or loop.

    A recording's engine waits in `ready` while nobody takes them, so it loses nothing. A live source's engine never
    waits: beyond the bounds the oldest estimate of the same kind goes, counted as `caller_busy`. Estimates that are
    not of the `kind` are left out. `end` says that no more will come, and why.
    """

    name = "caller"

    def __init__(self, kind: Kind = "all") -> None:
        self._kind = kind
        self._changes = Changes()
        self._waiting: deque[Estimate] = deque()
        self._counts: Counter[bool] = Counter()
        self._dropped = 0
        self._taken = 0
        self._status: Status | None = None
        self._ended = False
        self._error: BaseException | None = None

    @property
    def drops(self) -> Mapping[str, int]:
        """`caller_busy`: estimates that were not taken in time."""
        return {"caller_busy": self._dropped}

    @property
    def counters(self) -> Mapping[str, float]:
        """`caller_taken`: estimates that were taken."""
        return {"caller_taken": self._taken}

    @property
    def status(self) -> Status | None:
        """The engine's last status; None before the first. From any thread."""
        return self._status

    @property
    def is_full(self) -> bool:
        """Whether a recording is held back until somebody takes estimates."""
        return len(self._waiting) >= ROOM

    @property
    def taken(self) -> int:
        """How many estimates were taken."""
        return self._taken

    @property
    def ended(self) -> bool:
        """Whether no more estimates will come."""
        return self._ended

    async def ready(self) -> None:
        """Waits for room."""
        await self._changes.wait_until(lambda: not self.is_full)

    def offer(self, estimate: Estimate) -> None:
        """Keep an estimate, where it is of the kind that is wanted."""
        if self._kind != "all" and estimate.settled != (self._kind == "settled"):
            return
        with self._changes:
            self._waiting.append(estimate)
            self._counts[estimate.settled] += 1
            most = MOST_SETTLED if estimate.settled else MOST_PROVISIONAL
            if self._counts[estimate.settled] > most:
                self._drop_oldest(settled=estimate.settled)
            self._changes.announce()

    def offer_status(self, status: Status) -> None:
        """Keep the last one."""
        self._status = status

    def end(self, error: BaseException | None = None) -> None:
        """No more will come; an `error` is the taker's to raise, once, after what came before it. Any thread."""
        with self._changes:
            self._ended, self._error = True, error
            self._changes.announce()

    def take_one(self) -> Estimate:
        """The oldest estimate; blocks until there is one. Raises what ended the run, or `Ended`."""
        with self._changes:
            while (estimate := self._take_oldest()) is None:
                self._changes.wait()
            return estimate

    async def take_async(self) -> Estimate:
        """The oldest estimate, waited for on the running event loop. Raises what ended the run, or `Ended`."""
        found: list[Estimate] = []

        def takes_one() -> bool:
            estimate = self._take_oldest()
            found.extend([] if estimate is None else [estimate])
            return bool(found)

        await self._changes.wait_until(takes_one)
        return found[0]

    def take_waiting(self, timeout_s: float = 0.0) -> list[Estimate]:
        """All that wait; blocks for at most `timeout_s` where none does.

        Raises what ended the run, or `Ended`, where there are none and none will come.
        """
        deadline_s = time.monotonic() + timeout_s
        with self._changes:
            while not (self._waiting or self._ended) and (left_s := deadline_s - time.monotonic()) > 0:
                self._changes.wait(left_s)
            taken: list[Estimate] = []
            while self._waiting or (self._ended and not taken):
                estimate = self._take_oldest()
                assert estimate is not None
                taken.append(estimate)
            return taken

    def _take_oldest(self) -> Estimate | None:
        """With the lock held: the oldest, None where none waits. Raises what ended the run, or `Ended`."""
        if self._waiting:
            estimate = self._waiting.popleft()
            self._counts[estimate.settled] -= 1
            self._taken += 1
            self._changes.announce()
            return estimate
        if self._ended:
            error, self._error = self._error, None
            raise error or Ended
        return None

    def _drop_oldest(self, *, settled: bool) -> None:
        at = next(n for n, estimate in enumerate(self._waiting) if estimate.settled == settled)
        del self._waiting[at]
        self._counts[settled] -= 1
        self._dropped += 1
