"""Where estimates go: a sink is anything that takes them. A slow or broken one never slows the engine.

The life of a sink: `open` (may refuse, with a UserError), then `run` in a task of its own while the engine
offers it estimates, then that task is cancelled, then `close`. `attached` does this for any number of sinks.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from stream.logs import note

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from stream.messages import Estimate, Marker, Status, Transcript

log = logging.getLogger(__name__)


@runtime_checkable
class Sink(Protocol):
    """What takes estimates.

    The four `offer` methods are called from the event loop, return at once, never raise and never wait: each
    sink has bounded queues, and what it cannot keep it drops and counts. `drops` and `counters` may be read
    at any time; their keys are words joined by underscores that begin with the sink's name.
    """

    @property
    def name(self) -> str:
        """What the sink is called in counters and logs."""
        ...

    @property
    def drops(self) -> Mapping[str, int]:
        """How much was dropped, by cause."""
        ...

    @property
    def counters(self) -> Mapping[str, float]:
        """Whatever else the sink counts: reconnections, messages published, lines written."""
        ...

    async def open(self) -> None:
        """Acquire what the sink needs. Raises UserError where what the user asked for cannot work."""
        ...

    async def run(self) -> None:
        """Pass on what is offered, until cancelled. What can be mended (a lost connection) is mended here."""
        ...

    async def ready(self) -> None:
        """Return when the sink can take more without dropping it.

        Sources that may wait (files) await this before each frame, so that a fast replay loses nothing. A
        sink whose far end is gone returns at once: an outage holds nobody up.
        """
        ...

    def offer(self, estimate: Estimate) -> None:
        """Take a provisional or a settled estimate; settled ones come once each, in order."""
        ...

    def offer_status(self, status: Status) -> None:
        """Take the engine's state: on change, and at least once a second while running."""
        ...

    def offer_transcript(self, transcript: Transcript) -> None:
        """Take an utterance's words as far as they are known."""
        ...

    def offer_marker(self, marker: Marker) -> None:
        """Take a moment that somebody marked."""
        ...

    async def close(self) -> None:
        """Pass on what must not be lost, within bounded time, and release everything.

        Called once `run` has ended, however it ended, and also after a failed `open`. Raises UserError where
        something given was lost in a way the user should hear of (a full disk).
        """
        ...


@runtime_checkable
class CropTaker(Protocol):
    """A sink that shows what the network sees of a face, where the user asked for that."""

    @property
    def wants_crops(self) -> bool:
        """Whether anybody asked."""
        ...

    def offer_crop(self, crop: NDArray[np.uint8], *, face: bool) -> None:
        """Take a crop, uint8 (48, 48, 3) RGB, zeros where there is no `face`; as `Sink.offer` is to."""
        ...


class QuietSink:
    """What of a sink's life asks for nothing: a sink that inherits this says only what it does."""

    @property
    def drops(self) -> Mapping[str, int]:
        """Nothing is dropped."""
        return {}

    @property
    def counters(self) -> Mapping[str, float]:
        """Nothing is counted."""
        return {}

    async def open(self) -> None:
        """Nothing to acquire."""

    async def run(self) -> None:
        """Nothing to do beside the engine."""
        await asyncio.Event().wait()

    async def ready(self) -> None:
        """There is always room."""

    def offer(self, estimate: Estimate) -> None:
        """Not taken."""

    def offer_status(self, status: Status) -> None:
        """Not taken."""

    def offer_transcript(self, transcript: Transcript) -> None:
        """Not taken."""

    def offer_marker(self, marker: Marker) -> None:
        """Not taken."""

    async def close(self) -> None:
        """Nothing to release."""


class Outlet:
    """All sinks as one: what is offered goes to each."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = tuple(sinks)
        self._crop_takers = tuple(s for s in self._sinks if isinstance(s, CropTaker) and s.wants_crops)

    @property
    def drops(self) -> dict[str, int]:
        """All sinks' drops, by cause."""
        return dict(sum((Counter(sink.drops) for sink in self._sinks), Counter[str]()))

    @property
    def counters(self) -> dict[str, float]:
        """All sinks' counters."""
        return {name: value for sink in self._sinks for name, value in sink.counters.items()}

    async def ready(self) -> None:
        """Wait until every sink can take more without dropping it."""
        for sink in self._sinks:
            await sink.ready()

    def offer(self, estimate: Estimate) -> None:
        """Give an estimate to every sink."""
        for sink in self._sinks:
            sink.offer(estimate)

    def offer_status(self, status: Status) -> None:
        """Give the engine's state to every sink."""
        for sink in self._sinks:
            sink.offer_status(status)

    def offer_transcript(self, transcript: Transcript) -> None:
        """Give an utterance's words to every sink."""
        for sink in self._sinks:
            sink.offer_transcript(transcript)

    def offer_marker(self, marker: Marker) -> None:
        """Give a marked moment to every sink."""
        for sink in self._sinks:
            sink.offer_marker(marker)

    def offer_crop(self, crop: NDArray[np.uint8], *, face: bool) -> None:
        """Give what the network sees of a face to every sink that wants it."""
        for taker in self._crop_takers:
            taker.offer_crop(crop, face=face)


@asynccontextmanager
async def attached(sinks: Sequence[Sink]) -> AsyncIterator[Outlet]:
    """Open `sinks` in order, run each in its own task for as long as the body lasts, then close them.

    Whatever happens (the body fails or is cancelled, a sink cannot be opened, a sink's task dies) every sink
    that was begun is closed, the last one first. Raises what the body, an `open` or a `run` raised; otherwise
    the first thing that a `close` raised.
    """
    begun: list[Sink] = []
    failure: BaseException | None = None
    try:
        for sink in sinks:
            begun.append(sink)
            await sink.open()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(sink.run(), name=f"sink {sink.name}") for sink in begun]
            try:
                yield Outlet(begun)
            finally:
                for task in tasks:
                    task.cancel()
    except BaseExceptionGroup as raised:
        failure = raised.exceptions[0] if len(raised.exceptions) == 1 else raised
    except BaseException as raised:
        failure = raised
    for sink in reversed(begun):
        try:
            # In a task of its own: in one that was cancelled, Python 3.11.2's timeouts would be cancellations.
            await asyncio.create_task(sink.close(), name=f"close {sink.name}")
        except asyncio.CancelledError as raised:
            failure = failure or raised  # cancelled again: the others are closed all the same
        except Exception as raised:
            if failure is None or isinstance(failure, asyncio.CancelledError):
                failure = raised
            else:
                note(log, logging.ERROR, "failed", str(raised), what=sink.name)
    if failure is not None:
        raise failure
