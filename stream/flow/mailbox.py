"""The bounded queue between two stages: it either holds its producer back or drops the oldest, and counts."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Closed(Exception):
    """The producer has finished and everything it put in has been taken."""


class Mailbox(Generic[T]):
    """A queue of at most `capacity` items between two tasks of one event loop.

    `put` waits for room: for recordings, which never lose anything. `post` never waits: for live sources,
    where the newest item wins. Where it finds the mailbox full, the oldest item goes and `dropped` counts it;
    `merge(gone, next_oldest)` may save what must not go with it.
    """

    def __init__(self, capacity: int, merge: Callable[[T, T], T] | None = None) -> None:
        if capacity < 1:
            raise ValueError(f"a mailbox holds at least one item, not {capacity}")
        self.capacity = capacity
        self.dropped = 0
        self._merge = merge
        self._items: deque[T] = deque()
        self._closed = False
        self._changed = asyncio.Condition()

    def __len__(self) -> int:
        return len(self._items)

    async def put(self, item: T) -> None:
        """Adds an item, waiting while the mailbox is full."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self._items) < self.capacity)
            self._items.append(item)
            self._changed.notify_all()

    async def post(self, item: T) -> None:
        """Adds an item at once, dropping the oldest where there is no room."""
        async with self._changed:
            self._items.append(item)
            if len(self._items) > self.capacity:
                gone = self._items.popleft()
                self.dropped += 1
                if self._merge is not None:
                    self._items[0] = self._merge(gone, self._items[0])
            self._changed.notify_all()

    async def take(self) -> T:
        """The oldest item, waiting for one. Raises Closed once the producer closed and nothing is left."""
        async with self._changed:
            await self._changed.wait_for(lambda: bool(self._items) or self._closed)
            if not self._items:
                raise Closed
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    async def take_some(self, most: int, last: Callable[[T], bool] | None = None) -> list[T]:
        """The oldest items, as many as there are up to so many, none after the first that is `last`; waits for one.

        Raises Closed as `take` does.
        """
        taken = [await self.take()]
        async with self._changed:
            while self._items and len(taken) < most and not (last is not None and last(taken[-1])):
                taken.append(self._items.popleft())
            self._changed.notify_all()
        return taken

    async def close(self) -> None:
        """Says that no more will come."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()
