"""The pump: a blocking source on the event loop, bounded, honest about errors, closed at once when left."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from models.errors import UserError
from stream.flow.channel import Channel, Closed
from stream.sources.events import AudioChunk, SourceEvent, SourceInfo, VideoFrame
from stream.sources.file import MediaFile
from stream.sources.open import open_source
from stream.sources.pump import pump
from tests.stream.recordings import steady, tone, write_recording

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Mapping
    from pathlib import Path

    from stream.messages import InputStatus


class Counting:
    """A source of numbered frames that notes what is done to it."""

    live = False
    counters: Mapping[str, int] = {}
    measures: Mapping[str, float] = {}
    inputs: Mapping[str, InputStatus] = {}
    info = SourceInfo("counting", 1, 1, 30.0, None, "none", None, False, None)

    def __init__(self, frames: int, *, error_at: int | None = None, wait_s: float = 0.0) -> None:
        self.frames, self.error_at, self.wait_s = frames, error_at, wait_s
        self.made = 0
        self.ended = threading.Event()
        self.closed = threading.Event()
        self.thread: threading.Thread | None = None

    def events(self) -> Iterator[SourceEvent]:
        self.thread = threading.current_thread()
        try:
            for index in range(self.frames):
                if self.closed.wait(self.wait_s):
                    return
                if index == self.error_at:
                    raise UserError("the lens cap is on")
                self.made += 1
                yield VideoFrame(index, index / 30, 0.0, np.zeros((1, 1, 3), np.uint8))
        finally:
            self.ended.set()

    def close(self) -> None:
        self.closed.set()


async def pumped(source: Any, *, capacity: int = 8) -> AsyncGenerator[SourceEvent, None]:
    """What comes out of the channel that a source is pumped into; left early, the pump is cancelled."""
    events: Channel[SourceEvent] = Channel(capacity)
    pumping = asyncio.create_task(pump(source, events))
    try:
        with suppress(Closed):
            while True:
                yield await events.take()
    finally:
        pumping.cancel()
        # Cancelled meanwhile, even more than once, this still waits for what the pump promises to have done.
        while not pumping.done():
            with suppress(asyncio.CancelledError):
                await asyncio.shield(pumping)


async def test_everything_arrives_in_order() -> None:
    source = Counting(500)
    indices = [e.index async for e in pumped(source) if isinstance(e, VideoFrame)]
    assert indices == list(range(500))
    assert source.ended.is_set()


async def test_no_more_waits_than_the_queue_holds() -> None:
    source = Counting(500)
    async with aclosing(pumped(source, capacity=3)) as events:
        taken = 0
        async for _ in events:
            taken += 1
            await asyncio.sleep(0.005)
            # Waiting in the queue, plus the one in the worker's hand.
            assert source.made <= taken + 3 + 1
            if taken == 20:
                break


async def test_an_error_of_the_source_comes_after_what_came_before_it() -> None:
    source = Counting(10, error_at=4)
    seen: list[SourceEvent] = []
    note = seen.append

    async def consume() -> None:
        async for event in pumped(source):
            note(event)

    with pytest.raises(UserError, match="lens cap"):
        await consume()
    assert len(seen) == 4
    assert source.thread is not None
    assert not source.thread.is_alive()


async def test_leaving_the_loop_joins_the_thread() -> None:
    source = Counting(1_000_000)
    async with aclosing(pumped(source)) as events:
        async for _ in events:
            break
    assert source.ended.is_set()
    assert source.thread is not None
    assert not source.thread.is_alive()


@pytest.mark.parametrize("wait_s", [0.0, 5.0])
async def test_cancellation_closes_source_and_thread(wait_s: float) -> None:
    """Whether the worker waits for room in the queue or inside the source."""
    source = Counting(1_000_000, wait_s=wait_s)

    async def consume() -> None:
        async with aclosing(pumped(source)) as events:
            async for _ in events:
                await asyncio.sleep(3600)

    task = asyncio.create_task(consume())
    await asyncio.sleep(0.1)
    began = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - began < 1.0
    assert source.ended.is_set()
    assert source.thread is not None
    assert not source.thread.is_alive()


async def test_cancelled_twice_still_leaves_no_thread() -> None:
    class Stubborn(Counting):
        def events(self) -> Iterator[SourceEvent]:
            self.thread = threading.current_thread()
            yield VideoFrame(0, 0.0, 0.0, np.zeros((1, 1, 3), np.uint8))
            time.sleep(0.4)

    source = Stubborn(1)
    task = asyncio.create_task(pump(source, Channel(8)))
    await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert source.thread is not None
    assert not source.thread.is_alive()


async def test_a_source_that_makes_wait_does_not_hold_up_the_loop() -> None:
    held_s: list[float] = []

    async def watch() -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            held_s.append(time.perf_counter() - before)

    watcher = asyncio.create_task(watch())
    async for _ in pumped(Counting(3, wait_s=0.3)):
        pass
    watcher.cancel()
    # By the source it would be held at each of the three frames; what a busy host does once or twice is its own.
    assert 0 < sorted(held_s)[-3] < 0.15


async def test_a_file_through_the_pump_is_the_file(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "a.mkv", steady(25), [(0.0, tone(1.0))])
    direct = list(MediaFile(path).events())
    received = [event async for event in pumped(open_source(str(path)))]
    assert len(direct) == len(received)
    for a, b in zip(direct, received, strict=True):
        if isinstance(a, VideoFrame):
            assert isinstance(b, VideoFrame)
            assert (a.index, a.time_s) == (b.index, b.time_s)
        else:
            assert isinstance(a, AudioChunk)
            assert isinstance(b, AudioChunk)
            assert np.array_equal(a.samples, b.samples)
