"""A source's blocking events on the event loop: read in a thread of its own, closed and joined however it ends."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stream.flow.channel import Channel
    from stream.sources.events import Source, SourceEvent


async def pump(source: Source, events: Channel[SourceEvent]) -> None:
    """Puts the source's events into a channel, which it closes at the end; one worker thread runs `source.events()`.

    The worker stands still while the channel is full (live sources drop inside themselves and count it). An
    exception of the source is handed to whoever takes from the channel, after what came before it. Cancelled, it
    returns only when the source is closed and the thread joined.
    """
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    failure: BaseException | None = None

    def read_to_the_end() -> None:
        nonlocal failure
        try:
            produced = source.events()
            try:
                for event in produced:
                    if not events.put_from_thread(event):
                        break
            finally:
                close = getattr(produced, "close", None)
                if close is not None:
                    close()
        except BaseException as error:  # the taker's to raise, whatever it is
            failure = error
        loop.call_soon_threadsafe(ended.set)

    worker = threading.Thread(target=read_to_the_end, name="source", daemon=True)
    worker.start()
    try:
        await ended.wait()
    finally:
        events.abandon()
        source.close()
        await _join(worker, ended)
    events.close(failure)


async def _join(worker: threading.Thread, ended: asyncio.Event) -> None:
    """Waits for the thread even if cancelled meanwhile: devices must be closed when the caller goes on.

    No executor waits for it: an interpreter that is ending starts no further threads.
    """
    cancelled: asyncio.CancelledError | None = None
    while not ended.is_set():
        try:
            await ended.wait()
        except asyncio.CancelledError as error:
            cancelled = error
    worker.join()  # it has only to return
    if cancelled is not None:
        raise cancelled
