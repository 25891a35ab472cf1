"""Delivers settled frames to the broker, all of them in order: from memory, or from the outbox after an outage."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

from stream.logs import note

if TYPE_CHECKING:
    from stream.mqtt.outbox import Outbox

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)

QUEUE_FRAMES: Final = 2048
BATCH_FRAMES: Final = 32

Publish = Callable[[bytes], Awaitable[None]]


class SettledDelivery:
    """Holds settled payloads until a broker has acknowledged them.

    While the broker keeps up they pass through a bounded queue in memory and touch no disk. During an outage
    (`keep`), and when the queue fills, they go to the outbox; until it is empty again everything goes through
    it, so that the order holds. A payload is forgotten only once acknowledged: an outage may
    repeat the last few (that is QoS 1), never lose one. What an earlier run left in the outbox goes first.
    """

    def __init__(self, outbox: Outbox, drops: Counter[str]) -> None:
        self._outbox = outbox
        self._drops = drops
        self._queue: deque[bytes] = deque()
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        # One thread, so that what is asked of the disk happens in the order in which it was asked.
        self._disk = ThreadPoolExecutor(max_workers=1, thread_name_prefix="outbox")
        self._batch: asyncio.Future[None] | None = None
        self._opened = False

    def __len__(self) -> int:
        """Payloads not acknowledged yet, in memory and on disk."""
        return len(self._queue) + len(self._outbox)

    @property
    def in_outbox(self) -> int:
        """Payloads on disk."""
        return len(self._outbox)

    async def open(self) -> None:
        """Open the outbox. Raises UserError where another process holds it."""
        await self._run_in_disk_thread(self._outbox.open)
        self._opened = True
        if len(self._outbox):
            message = f"an earlier run left {len(self._outbox)} settled frames: they are delivered first"
            note(log, logging.INFO, "outbox", message)
            self._arrived.set()

    def offer(self, payload: bytes) -> None:
        """Take the next payload; where even the queue is full, the oldest in it is dropped."""
        if len(self._queue) >= QUEUE_FRAMES:
            self._queue.popleft()
            self._drops["mqtt_settled_queue"] += 1
        self._queue.append(payload)
        self._arrived.set()
        self._update_readiness()

    async def ready(self) -> None:
        """Wait until the queue is less than half full."""
        await self._room.wait()

    async def keep(self) -> None:
        """While there is no broker: put what comes in the outbox, until cancelled; ends once all of it is there."""
        try:
            while True:
                self._arrived.clear()
                await self._move_queue_to_outbox()
                await self._arrived.wait()
        finally:
            # What is on its way to the disk must be known to be there, before later frames are published.
            await self._run_in_disk_thread(_nothing)

    async def deliver(self, publish: Publish) -> None:
        """While there is a broker: publish what there is, until cancelled or `publish` raises."""
        while True:
            await self.deliver_waiting(publish)
            self._arrived.clear()
            await self._arrived.wait()

    async def deliver_waiting(self, publish: Publish) -> None:
        """Publish until nothing is left.

        Cancelling stops the waiting; a batch on its way goes on, and whoever delivers next waits for it first,
        so that stopping repeats nothing. `interrupt` calls it off.
        """
        while len(self) or self._batch is not None:
            if self._batch is None:
                self._batch = asyncio.ensure_future(self._deliver_batch(publish))
            batch = self._batch
            try:
                await asyncio.shield(batch)
            finally:
                if batch.done():
                    self._batch = None

    async def interrupt(self) -> None:
        """Call off the batch on its way: the connection is gone. What was not acknowledged is kept."""
        batch, self._batch = self._batch, None
        if batch is not None:
            batch.cancel()
            await asyncio.gather(batch, return_exceptions=True)

    async def _deliver_batch(self, publish: Publish) -> None:
        if not len(self._outbox) and len(self._queue) <= QUEUE_FRAMES // 4:
            await self._deliver_from_queue(publish)
            return
        try:
            await self._move_queue_to_outbox()
            await self._deliver_from_outbox(publish)
        except sqlite3.Error as error:
            self._count_failure(len(self._outbox), error)
            await self._run_in_disk_thread(self._outbox.abandon)

    async def _deliver_from_queue(self, publish: Publish) -> None:
        batch = [self._queue.popleft() for _ in range(min(BATCH_FRAMES, len(self._queue)))]
        calls = [asyncio.ensure_future(publish(payload)) for payload in batch]
        try:
            await asyncio.gather(*calls)
        finally:
            self._queue.extendleft(reversed(batch[_count_acknowledged(calls) :]))
            self._update_readiness()

    async def _deliver_from_outbox(self, publish: Publish) -> None:
        rows = await self._run_in_disk_thread(self._outbox.first, BATCH_FRAMES)
        calls = [asyncio.ensure_future(publish(payload)) for _, payload in rows]
        try:
            await asyncio.gather(*calls)
        finally:
            if acknowledged := _count_acknowledged(calls):
                await self._run_in_disk_thread(self._outbox.remove, rows[acknowledged - 1][0])

    async def _move_queue_to_outbox(self) -> None:
        """Move the queue to the outbox."""
        batch = list(self._queue)
        self._queue.clear()
        self._update_readiness()
        if not batch:
            return
        await self._run_in_disk_thread(self._append_to_outbox, batch)

    def _count_failure(self, frames: int, error: sqlite3.Error) -> None:
        if not self._drops["mqtt_outbox_failed"]:
            note(log, logging.WARNING, "outbox", f"the outbox fails ({error}): settled frames are lost")
        self._drops["mqtt_outbox_failed"] += frames

    def _append_to_outbox(self, batch: Sequence[bytes]) -> None:
        # Counted here, in the disk's thread: whoever asked may have been cancelled meanwhile.
        try:
            self._drops["mqtt_outbox_full"] += self._outbox.append(batch)
        except sqlite3.Error as error:
            self._count_failure(len(batch), error)

    def _update_readiness(self) -> None:
        if len(self._queue) < QUEUE_FRAMES // 2:
            self._room.set()
        else:
            self._room.clear()

    async def _run_in_disk_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run in the disk's thread. Cancelling stops the waiting, not the work."""
        loop = asyncio.get_running_loop()
        return await asyncio.shield(loop.run_in_executor(self._disk, partial(work, *args, **kwargs)))

    async def close(self) -> None:
        """Keep on disk what was not acknowledged, for the next run, and release the file."""
        await self.interrupt()
        if self._opened:
            await self._move_queue_to_outbox()
            if len(self._outbox):
                message = f"{len(self._outbox)} settled frames wait in the outbox for the next run"
                note(log, logging.WARNING, "outbox", message)
            await self._run_in_disk_thread(self._outbox.close)
        self._disk.shutdown(wait=False)


def _nothing() -> None:
    """What is asked of the disk's thread to know that it has done all that was asked before."""


def _count_acknowledged(calls: Sequence[asyncio.Future[None]]) -> int:
    """How many of these calls, from the first, were acknowledged; the others are called off."""
    for call in calls:
        call.cancel()
    failed = [not call.done() or call.cancelled() or call.exception() is not None for call in calls]
    return failed.index(True) if True in failed else len(calls)
