"""A sink for people who want estimates and nothing else: two methods, called in a thread of their own."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from contextvars import copy_context
from itertools import chain, count
from typing import TYPE_CHECKING, Final, Protocol

from models.errors import UserError
from stream.flow.changes import Changes
from stream.sinks.base import QuietSink, Sink

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stream.messages import Estimate

QUEUE: Final = 2048
"""Estimates that may wait for a sink; a recording is held back at half of it."""

CLOSING_S: Final = 10.0
"""How long a sink may take, at the end, for what waits and to close."""

ENGINE_NAMES: Final = frozenset({"caller", "collect", "mqtt", "record", "terminal"})
"""Names of the engine's own sinks, which others' drops and counters must not be mixed up with."""


class SimpleSink(Protocol):
    """Whatever takes estimates: any object with these two methods, called one at a time in a thread of its own."""

    def take(self, estimate: Estimate) -> None:
        """Take a provisional or a settled estimate; settled ones come once each, in order.

        May block: a recording waits for a slow sink, and of a live source what a slow one has no time for is
        dropped and counted. What it raises ends the run and is raised to whoever runs it.
        """
        ...

    def close(self) -> None:
        """The run is over, however it ended: release what is held. Called once, in the thread of `take`."""
        ...


class SinkThread(QuietSink):
    """A `SimpleSink` as the engine takes it: its two methods in a thread, a bounded queue before them.

    `drops` and `counters` begin with `name`, by default the class's name in small letters.
    """

    def __init__(self, sink: SimpleSink, name: str | None = None) -> None:
        self.name = name or type(sink).__name__.lower()
        self._sink = sink
        self._waiting: deque[Estimate] = deque()
        self._changes = Changes()
        self._ending = self._done = False
        self._errors: list[Exception] = []
        self._told = 0
        self._dropped = self._taken = 0
        self._thread: threading.Thread | None = None

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
        # In the context of the run, as `asyncio.to_thread` would.
        thread = threading.Thread(
            target=copy_context().run, args=(self._take_all,), name=f"sink {self.name}", daemon=True
        )
        thread.start()
        self._thread = thread

    async def run(self) -> None:
        """Raises what the sink raised."""
        await self._changes.wait_until(lambda: bool(self._errors))
        self._told = 1
        raise self._errors[0]

    async def ready(self) -> None:
        """Waits for a sink that is half a queue behind."""
        await self._changes.wait_until(lambda: len(self._waiting) < QUEUE // 2)

    def offer(self, estimate: Estimate) -> None:
        """Hands on to the thread; the oldest is dropped where there is no room."""
        with self._changes:
            self._waiting.append(estimate)
            if len(self._waiting) > QUEUE or self._errors:
                self._waiting.popleft()
                self._dropped += 1
            self._changes.announce()

    async def close(self) -> None:
        """Lets the sink take what waits, and close. Raises what it raised and `run` has not, and UserError where
        that lasts longer than `CLOSING_S`: the sink is left to its thread then, and what waits is lost.
        """
        if self._thread is None:
            await self.open()
        with self._changes:
            self._ending = True
            self._changes.announce()
        try:
            async with asyncio.timeout(CLOSING_S):
                await self._changes.wait_until(lambda: self._done)
        except TimeoutError:
            with self._changes:
                lost = self._drop_waiting()
            losing = f" and has lost {lost} estimates that waited for it" if lost else ""
            raise UserError(
                f"the sink '{self.name}' was not done {CLOSING_S:g} s after the end{losing}: "
                "let its take and its close return sooner"
            ) from None
        assert self._thread is not None
        self._thread.join()  # nothing is left for it to do
        if untold := self._errors[self._told :]:
            raise untold[0]

    def _take_all(self) -> None:
        """In the thread: one estimate after another until the end, and `close`."""
        try:
            while (estimate := self._next()) is not None:
                try:
                    self._sink.take(estimate)
                    self._taken += 1
                except Exception as error:  # the run's to raise, whatever it is
                    with self._changes:
                        self._errors.append(error)
                        self._dropped += 1
                        self._drop_waiting()
        finally:
            self._close_sink()

    def _next(self) -> Estimate | None:
        """Waits for an estimate; None at the end."""
        with self._changes:
            self._changes.wait_for(lambda: bool(self._waiting) or self._ending)
            if not self._waiting:
                return None
            self._changes.announce()
            return self._waiting.popleft()

    def _drop_waiting(self) -> int:
        """With the lock held: gives up what waits, and says how many those are."""
        lost = len(self._waiting)
        self._waiting.clear()
        self._dropped += lost
        self._changes.announce()
        return lost

    def _close_sink(self) -> None:
        try:
            self._sink.close()
        except Exception as error:
            with self._changes:
                self._errors.append(error)
        finally:
            with self._changes:
                self._done = True
                self._changes.announce()


def as_sinks(sinks: Iterable[Sink | SimpleSink]) -> tuple[Sink, ...]:
    """The engine's form of sinks of either kind, in their order.

    Those of two methods are named after their classes, and numbered from the second of a name on.
    """
    given = tuple(sinks)
    names = {sink.name for sink in given if isinstance(sink, Sink)} | ENGINE_NAMES
    made: list[Sink] = []
    for sink in given:
        if isinstance(sink, Sink):
            made.append(sink)
            continue
        own = type(sink).__name__.lower()
        name = next(n for n in chain([own], (f"{own}{k}" for k in count(2))) if n not in names)
        names.add(name)
        made.append(SinkThread(sink, name))
    return tuple(made)
