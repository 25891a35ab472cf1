"""A source's blocking events on the event loop: one worker thread, a bounded hand-over, closed when left."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from stream.sources.events import Source, SourceEvent


@dataclass
class _Mailbox:
    """A bounded hand-over from one worker thread to the event loop."""

    slots: threading.Semaphore
    events: deque[SourceEvent]
    arrived: asyncio.Event
    stopping: threading.Event
    finished: bool = False
    error: BaseException | None = None


async def pump(source: Source, *, queue_events: int = 8) -> AsyncGenerator[SourceEvent, None]:
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
