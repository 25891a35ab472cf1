"""A sink for people who want estimates and nothing else: two methods, called in a thread of their own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

from stream.flow.changes import Changes
from stream.sinks.base import Sink

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stream.messages import Estimate, Marker, Status, Transcript

QUEUE: Final = 2048
"""Estimates that may wait for a sink; a recording is held back at half of it."""

CLOSING_S: Final = 10.0
"""How long a sink may take, at the end, for what waits."""


class SimpleSink(Protocol):
    """Whatever takes estimates: any object with these two methods, called one at a time in a thread of its own."""

    def take(self, estimate: Estimate) -> None:
        """Take a provisional or a settled estimate; settled ones come once each, in order.

        May block: a recording waits for a slow sink, and of a live source what a slow one has no time for is
        dropped and counted. What it raises ends the run and is raised to whoever runs it.
        """
        ...

    def close(self) -> None:
        """The run is over, however it ended: release what is held. Called once."""
        ...


class SinkThread:
    """A `SimpleSink` as the engine takes it: its two methods in a thread, a bounded queue before them.

    `drops` and `counters` begin with `name`, by default the class's name in small letters.
    """

    def __init__(self, sink: SimpleSink, name: str | None = None) -> None:
        self.name = name or type(sink).__name__.lower()
        self._sink = sink
        self._waiting: deque[Estimate] = deque()
        self._changes = Changes()
        self._ending = self._has_told = False
        self._deadline_s = float("inf")
        self._error: Exception | None = None
        self._dropped = self._taken = 0
        self._thread = threading.Thread(target=self._take_all, name=f"sink {self.name}", daemon=True)

    @property
    def drops(self) -> Mapping[str, int]:
        """`NAME_busy`: the sink was too slow, or had failed."""
        return {f"{self.name}_busy": self._dropped}

    @property
    def counters(self) -> Mapping[str, float]:
        """`NAME_taken`: what the sink took."""
        return {f"{self.name}_taken": self._taken}

    async def open(self) -> None:
        """Starts the thread."""
        self._thread.start()

    async def run(self) -> None:
        """Raises what the sink raised."""
        await self._changes.wait_until(lambda: self._error is not None)
        assert self._error is not None
        self._has_told = True
        raise self._error

    async def ready(self) -> None:
        """Waits for a sink that is half a queue behind."""
        await self._changes.wait_until(lambda: len(self._waiting) < QUEUE // 2)

    def offer(self, estimate: Estimate) -> None:
        """Hands on to the thread; the oldest is dropped where there is no room."""
        with self._changes:
            self._waiting.append(estimate)
            if len(self._waiting) > QUEUE or self._error is not None:
                self._waiting.popleft()
                self._dropped += 1
            self._changes.announce()

    def offer_status(self, status: Status) -> None:
        """A simple sink takes estimates only."""

    def offer_transcript(self, transcript: Transcript) -> None:
        """A simple sink takes estimates only; each says which word is said."""

    def offer_marker(self, marker: Marker) -> None:
        """A simple sink takes estimates only."""

    async def close(self) -> None:
        """Lets the sink take what waits, for at most `CLOSING_S`, and close. Raises what its `close` raised."""
        with self._changes:
            self._ending = True
            self._deadline_s = time.monotonic() + CLOSING_S
            self._changes.announce()
        if self._thread.ident is not None:
            await asyncio.to_thread(self._thread.join)
        await asyncio.to_thread(self._sink.close)
        if self._error is not None and not self._has_told:
            raise self._error

    def _take_all(self) -> None:
        """In the thread: one estimate after another, until the end, a failure, or time is up."""
        while True:
            with self._changes:
                self._changes.wait_for(lambda: bool(self._waiting) or self._ending)
                if not self._waiting:
                    return
                if self._ending and time.monotonic() > self._deadline_s:
                    self._dropped += len(self._waiting)
                    return
                estimate = self._waiting.popleft()
                self._changes.announce()
            try:
                self._sink.take(estimate)
            except Exception as error:  # the run's to raise, whatever it is
                with self._changes:
                    self._error = error
                    self._dropped += 1 + len(self._waiting)
                    self._waiting.clear()
                    self._changes.announce()
                return
            self._taken += 1


def as_sink(sink: Sink | SimpleSink) -> Sink:
    """The engine's form of a sink of either kind."""
    return sink if isinstance(sink, Sink) else SinkThread(sink)
