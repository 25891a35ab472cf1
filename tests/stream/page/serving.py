"""A page served in a thread of its own, with an engine that obeys and says nothing, for clients of every kind."""

from __future__ import annotations

import asyncio
import math
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from stream.controls import Controls
from stream.messages import (
    Affect,
    BundleStatus,
    CommandOutcome,
    EngineCommand,
    Marker,
    Origin,
    Present,
    Status,
)
from stream.page.options import PageOptions
from stream.page.sink import PageSink
from stream.sinks.base import attached
from tests.stream.brokers import estimate, status

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from stream.messages import Estimate
    from stream.sinks.base import Outlet


def loop_estimate(frame: int, *, settled: bool = False, seen: bool = True) -> Estimate:
    """A person who goes round the plane."""
    turn = frame / 30 / 6
    return replace(
        estimate(frame, settled=settled),
        value=Affect(0.8 * math.cos(turn), 0.7 * math.sin(turn)),
        spread=Affect(0.08, 0.12),
        present=Present(
            face=seen, voice=seen and frame % 90 < 60, words=seen and settled and frame % 90 < 20
        ),
    )


def page_status(**changed: Any) -> Status:
    """What a run says of itself that goes well."""
    bundle = BundleStatus("demo", "compact", 6, True, "trained on drawn people: good for showing")
    return status(**{"bundle": bundle, "frames": 300, "settled": 280, **changed})


class ObedientEngine:
    """Takes commands and markers as the engine does, and tells the page."""

    def __init__(self) -> None:
        self.commands: list[EngineCommand] = []
        self.markers: list[Marker] = []
        self.tell: Callable[[str, Any], None] = lambda what, message: None

    def command(self, command: EngineCommand) -> CommandOutcome:
        self.commands.append(command)
        if command != "recenter":
            self.tell("offer_status", page_status(phase="paused" if command == "pause" else "running"))
        return CommandOutcome(True)

    def mark(self, text: str, origin: Origin, marked_at: float | None = None) -> Marker:
        self.markers.append(Marker(text, marked_at or 1.0, 9.5, origin))
        self.tell("offer_marker", self.markers[-1])
        return self.markers[-1]


class ServedPage:
    """A page of a run that goes well, at a real port, from entering until leaving; it can be served there again."""

    def __init__(
        self, options: PageOptions | None = None, *, publish_transcript: bool = False, **changed: Any
    ) -> None:
        self.options = options or PageOptions(port=0)
        self.engine = ObedientEngine()
        self.said: list[str] = []
        self._changed = changed
        self._publish_transcript = publish_transcript
        self._ready = threading.Event()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._ready.clear()
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the run, as the engine ends it."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._over.set)
            self._thread.join(20)

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        controls = Controls()
        controls.attach(self.engine)
        sink = PageSink(
            self.options,
            controls,
            publish_transcript=self._publish_transcript,
            say=self.said.append,
            **self._changed,
        )
        async with attached([sink]) as outlet:
            self.outlet: Outlet = outlet
            self.sink = sink
            # Served again, it is at the same port.
            self.options = replace(self.options, port=int(sink.url.rstrip("/").rpartition(":")[2]))
            self.engine.tell = lambda what, message: getattr(outlet, what)(message)
            self._ready.set()
            await self._over.wait()

    @property
    def url(self) -> str:
        return self.options.url()

    def tell(self, what: str, *messages: Any) -> None:
        """Offer messages to the page, in its own event loop."""

        async def offer() -> None:
            for message in messages:
                getattr(self.outlet, what)(message)

        asyncio.run_coroutine_threadsafe(offer(), self._loop).result(10)

    def tell_minute(self, frames: int = 300) -> None:
        """A status, and so many frames with what has settled of them."""
        self.tell("offer_status", page_status())
        for frame in range(frames):
            self.tell("offer", loop_estimate(frame))
            if frame >= 30:
                self.tell("offer", loop_estimate(frame - 30, settled=True))

    def show_crop(self, value: int) -> None:
        """Offer a crop of one grey."""
        crop = np.full((48, 48, 3), value, np.uint8)
        asyncio.run_coroutine_threadsafe(self._show(crop), self._loop).result(10)

    async def _show(self, crop: Any) -> None:
        self.outlet.offer_crop(crop, face=True)
