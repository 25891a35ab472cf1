"""What a source gives, whatever it is: frames, sound and changes of health on one time axis.

Zero is the source's first video frame. A frame's `time_s` is its presentation time; sound is placed by its
own timestamps on the sample axis (sample n is at n / 16 000 s), so it may start late, have gaps and end
early, but it never overlaps and never comes before sample 0.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from stream.messages import InputStatus

SAMPLE_RATE: Final = 16_000

InputName = Literal["camera", "microphone"]


@dataclass(frozen=True, eq=False)
class VideoFrame:
    """One picture.

    `index` counts frames from 0 without gaps; `time_s` is media time in seconds, strictly increasing from 0;
    `captured_at` the wall-clock time (seconds since the epoch) at which it was captured or, from a file,
    decoded; `rgb` uint8 (height, width, 3). `repeated` says that a live source had no newer picture at this
    tick, so `rgb` is the previous frame's.
    """

    index: int
    time_s: float
    captured_at: float
    rgb: NDArray[np.uint8]
    repeated: bool = False


@dataclass(frozen=True, eq=False)
class AudioChunk:
    """Sound from `start_sample` on: float32 (n,), mono, 16 kHz, in [-1, 1]; n > 0.

    Chunks come in order and never overlap; where the next one starts later than the last ended there was no
    sound, which is for the consumer to treat as silence.
    """

    start_sample: int
    samples: NDArray[np.float32]

    @property
    def end_sample(self) -> int:
        """One past the last sample."""
        return self.start_sample + len(self.samples)


@dataclass(frozen=True)
class InputChange:
    """A live input's health turned: `status` holds from here on."""

    name: InputName
    status: InputStatus


@dataclass(frozen=True)
class NoPicture:
    """A live source's tick while its camera is away: counted in `index` like a frame, with nothing to see.

    `time_s` is the tick's media time, `at` its wall-clock time in seconds since the epoch.
    """

    index: int
    time_s: float
    at: float


Event = VideoFrame | AudioChunk | NoPicture | InputChange


@dataclass(frozen=True)
class SourceInfo:
    """What a source is.

    `width` and `height` are the picture's as yielded (turned upright, scaled where asked); `frame_rate` is
    the average in frames per second; `duration_s` and `frames_hint` are what the container claims, None where
    it claims nothing (live sources, some containers): estimates, never used to place anything.
    """

    name: str
    width: int
    height: int
    frame_rate: float
    duration_s: float | None
    video_codec: str
    audio_codec: str | None
    has_audio: bool
    frames_hint: int | None


class Source(Protocol):
    """A file, or live inputs, as one stream of events."""

    @property
    def info(self) -> SourceInfo:
        """What it is."""
        ...

    @property
    def live(self) -> bool:
        """True where events come when they happen and those not taken in time are dropped."""
        ...

    @property
    def counters(self) -> Mapping[str, int]:
        """Everything skipped, repaired or dropped so far, by cause."""
        ...

    @property
    def measures(self) -> Mapping[str, float]:
        """What is measured about it (clock drift in parts per million); empty for files."""
        ...

    @property
    def inputs(self) -> Mapping[str, InputStatus]:
        """The health of `camera` and `microphone` (a file's picture and sound go by the same names)."""
        ...

    def events(self) -> Iterator[Event]:
        """Frames, sound and changes of health merged by time: when a frame is yielded, all sound up to its
        time that exists has been. Blocks; closing the iterator closes what it opened.
        """
        ...

    def close(self) -> None:
        """Ends a running `events()` soon, from any thread; it then closes what it opened. May be repeated."""
        ...


def open_source(
    target: str,
    *,
    microphone: str | None = None,
    size: tuple[int, int] | None = None,
    frame_rate: float | None = None,
    tick_rate: float = 30.0,
) -> Source:
    """The source named by `target`: a file's path, or, live, `camera:0`, `camera:NAME`, a URL or
    `lavfi:GRAPH`.

    `microphone` (None: the default, or a stream's own; `none`; a number or a name), `size` and `frame_rate`
    (asked of the device) and `tick_rate` (frames per second given, the bundle's) concern live sources only.
    Blocks while devices open. Raises `UserError` where the source cannot be opened.
    """
    if target.startswith(("camera:", "lavfi:")) or "://" in target:
        from stream.devices import Asked
        from stream.live import open_live

        return open_live(
            target,
            microphone=microphone,
            asked=Asked(size, frame_rate),
            tick_rate=tick_rate,
        )
    from stream.files import MediaFile

    return MediaFile(target)


@dataclass
class _Mailbox:
    """A bounded hand-over from one worker thread to the event loop."""

    slots: threading.Semaphore
    events: deque[Event]
    arrived: asyncio.Event
    stopping: threading.Event
    finished: bool = False
    error: BaseException | None = None


async def pump(source: Source, *, queue_events: int = 8) -> AsyncGenerator[Event, None]:
    """The source's events without blocking the event loop: one worker thread runs `source.events()`.

    At most `queue_events` wait; the worker stands still while they do (live sources drop inside themselves
    and count it). An exception of the source is raised here. When the consumer stops, by `aclose()`, an
    exception or cancellation, the source is closed and the thread joined before this returns. A consumer that
    may leave the loop early should hold it with `contextlib.aclosing`, so that this happens at once and not
    when the generator is collected:

        async with aclosing(pump(source)) as events:
            async for event in events: ...
    """
    if queue_events < 1:
        raise ValueError(f"queue_events must be at least 1, not {queue_events}")
    loop = asyncio.get_running_loop()
    box = _Mailbox(threading.Semaphore(queue_events), deque(), asyncio.Event(), threading.Event())

    def work() -> None:
        try:
            events = source.events()
            try:
                for event in events:
                    box.slots.acquire()
                    if box.stopping.is_set():
                        break
                    box.events.append(event)
                    # The consumer clears it before it looks: while it is set, it will look again.
                    if not box.arrived.is_set():
                        loop.call_soon_threadsafe(box.arrived.set)
            finally:
                close = getattr(events, "close", None)
                if close is not None:
                    close()
        except BaseException as error:  # handed to the consumer, whatever it is
            box.error = error
        box.finished = True
        loop.call_soon_threadsafe(box.arrived.set)

    worker = threading.Thread(target=work, name="source", daemon=True)
    worker.start()
    try:
        while True:
            # Read before the queue: what the worker left behind is in the queue once it says it has finished.
            finished = box.finished
            while box.events:
                event = box.events.popleft()
                box.slots.release()
                yield event
            if finished:
                break
            await box.arrived.wait()
            box.arrived.clear()
        if box.error is not None:
            raise box.error
    finally:
        box.stopping.set()
        box.slots.release()
        source.close()
        await _join(worker)


async def _join(worker: threading.Thread) -> None:
    """Waits for the thread even if cancelled meanwhile: devices must be closed when the caller goes on."""
    joining = asyncio.ensure_future(asyncio.to_thread(worker.join))
    cancelled: asyncio.CancelledError | None = None
    while not joining.done():
        try:
            await asyncio.shield(joining)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
