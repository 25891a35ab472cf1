"""`stream` and `astream`: a source's estimates as they come, in a `for` loop or an `async for` loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from affectstream.background import BackgroundRun
from affectstream.options import SourceOptions, plan_run
from models.errors import AffectError
from stream.sinks.handover import Ended, Handover, Kind

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Mapping
    from pathlib import Path
    from types import TracebackType
    from typing import Any, Self, Unpack

    from stream.messages import Estimate, Status
    from stream.options import Pace


def stream(
    source: str | Path, *, kind: Kind = "all", pace: Pace = "fast", **options: Unpack[SourceOptions]
) -> Stream:
    """The estimates of a source, to loop over: a file's path, `camera:0`, `camera:NAME`, a URL or `lavfi:GRAPH`.

        for estimate in affectstream.stream("talk.mp4"):
            print(estimate.time_s, estimate.value.valence, estimate.value.arousal, estimate.settled)

    Every frame comes twice: provisional, and settled once no word can change it any more; `kind` leaves one out. A
    recording comes as fast as the loop takes it, or with `pace="live"` as it plays, and waits for a slow loop; of a
    live source what a slow loop does not take in time is dropped and counted in `status.drops`. Leaving the loop
    closes everything. Works where an event loop runs, as in Jupyter, and where none does.

    The loop raises UserError for what a user can mend.
    """
    return Stream(source, kind, pace, options)


def astream(
    source: str | Path, *, kind: Kind = "all", pace: Pace = "fast", **options: Unpack[SourceOptions]
) -> AsyncStream:
    """As `stream`, for an `async for` loop; the engine runs on a loop of its own, so yours may be busy.

        async for estimate in affectstream.astream("camera:0", microphone="default"):
            await show(estimate)

    After a `break` the run is closed by the event loop right away; `async with` waits for it.
    """
    return AsyncStream(source, kind, pace, options)


class _Run:
    """What both kinds of loop stand on: a run in the background and the estimates that wait."""

    def __init__(self, source: str | Path, kind: Kind, pace: Pace, options: Mapping[str, Any]) -> None:
        self._handover = Handover(kind)
        self._background = BackgroundRun(
            plan_run(source, pace, options), [self._handover], on_end=self._handover.end
        )
        self._claimed = False

    @property
    def status(self) -> Status | None:
        """How the run stands, at most a second old, and at its end: inputs, drops, latency, notes. None before it."""
        return self._handover.status

    def _claim(self) -> None:
        """Raises AffectError the second time."""
        if self._claimed:
            raise AffectError("a stream is read once: ask affectstream for another")
        self._claimed = True


class Stream(_Run):
    """Estimates to loop over once; the first step of the loop loads and opens everything.

    `with` and `close` end it from outside the loop.
    """

    def __iter__(self) -> Generator[Estimate, None, None]:
        self._claim()
        return self._take_all()

    def _take_all(self) -> Generator[Estimate, None, None]:
        try:
            self._background.start()
            while True:
                yield self._handover.take_one()
        except Ended:
            return
        finally:
            self._background.let_go()

    def close(self) -> None:
        """Ends the run; devices are closed and threads joined when this returns."""
        self._background.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncStream(_Run):
    """Estimates to loop over once with `async for`. `async with` and `aclose` end it from outside the loop."""

    def __aiter__(self) -> AsyncGenerator[Estimate, None]:
        self._claim()
        return self._take_all()

    async def _take_all(self) -> AsyncGenerator[Estimate, None]:
        try:
            self._background.start()
            while True:
                yield await self._handover.take_async()
        except Ended:
            return
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Ends the run; devices are closed and threads joined when this returns."""
        self._background.stop()
        await asyncio.shield(asyncio.to_thread(self._background.close))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
