"""What waits to be published, bounded: the queue of one topic, and thinning of a topic that has too much."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from typing import TYPE_CHECKING, Generic, TypeVar

import aiomqtt

from models.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


class Thinner:
    """Lets at most `rate` of a second's frames through, evenly, by media time; all where `rate` is None."""

    def __init__(self, rate: float | None) -> None:
        if rate is not None and not 0 < rate < float("inf"):
            raise UserError(f"a rate of {rate} estimates a second cannot be kept: give a number above 0")
        self._rate = rate
        self._slot: int | None = None

    def takes(self, time_s: float) -> bool:
        """Whether the frame at this time passes: the first of each 1 / rate seconds does."""
        if self._rate is None:
            return True
        slot = int(time_s * self._rate + 1e-6)
        passes = slot != self._slot
        self._slot = slot
        return passes


class Waiting(Generic[T]):
    """Messages of one kind in the order in which they came, at most `capacity`; more push the oldest out.

    What is pushed out is counted in `drops` under `pushed_out`. Without a connection messages are not kept, and what
    is there when it is lost goes; both are counted under `lost`. Where `lost` is None they wait for the next one.
    """

    def __init__(self, capacity: int, drops: Counter[str], *, pushed_out: str, lost: str | None) -> None:
        self._capacity = capacity
        self._drops = drops
        self._pushed_out = pushed_out
        self._lost = lost
        self._messages: deque[T] = deque()
        self._connected = False
        self._called_off = 0
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    def __len__(self) -> int:
        return len(self._messages)

    def offer(self, message: T) -> None:
        """Take the next message."""
        if not self._connected and self._lost is not None:
            self._drops[self._lost] += 1
            return
        if len(self._messages) >= self._capacity:
            self._messages.popleft()
            self._drops[self._pushed_out] += 1
        self._messages.append(message)
        self._arrived.set()
        self._update_readiness()

    async def ready(self) -> None:
        """Wait until the queue is less than half full."""
        await self._room.wait()

    def connect(self) -> None:
        """From now on there is a connection."""
        self._connected = True
        self._called_off = 0

    def disconnect(self) -> None:
        """From now on there is none."""
        self._connected = False
        if self._lost is not None:
            self._drops[self._lost] += len(self._messages) + self._called_off
            self._called_off = 0
            self._messages.clear()
            self._update_readiness()

    async def send(self, publish: Callable[[T], Awaitable[None]]) -> None:
        """Publish what there is and what comes, until cancelled or `publish` raises."""
        while True:
            self._arrived.clear()
            await self.send_waiting(publish)
            await self._arrived.wait()

    async def send_waiting(self, publish: Callable[[T], Awaitable[None]]) -> None:
        """Publish until nothing is left. Raises what `publish` raises."""
        while self._messages:
            message = self._messages.popleft()
            self._update_readiness()
            try:
                await publish(message)
            except (aiomqtt.MqttError, asyncio.CancelledError) as error:
                if self._lost is None:
                    self._messages.appendleft(message)
                elif isinstance(error, aiomqtt.MqttError):
                    self._drops[self._lost] += 1
                else:  # on its way still, unless the connection is lost too
                    self._called_off += 1
                raise

    def _update_readiness(self) -> None:
        if len(self._messages) < self._capacity // 2:
            self._room.set()
        else:
            self._room.clear()
