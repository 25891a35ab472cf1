"""The bounded queue between two stages: it either holds its producer back or drops the oldest item, and counts."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

from stream.flow.changes import Changes

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Closed(Exception):
    """The producer has finished and everything it put in has been taken."""


class Channel(Generic[T]):
    """A queue of at most `capacity` items from one producer to one task of an event loop, which takes them.

    The producer is a task of the same loop (`put`, `post`) or a thread (`put_from_thread`). `put` and
    `put_from_thread` wait for room: for recordings, which never lose anything. `post` never waits: for live
    sources, where the newest item wins. Where it finds the channel full, the oldest item goes and `dropped`
    counts it; `merge(dropped_item, next_oldest)` may save what must not go with it.

    `close` ends it from the producer's side: what is left can still be taken, then the taker is told, by `Closed`
    or by the error that ended the producer. `abandon` ends it from the taker's side: a thread that waits for room
    is sent away.
    """

    def __init__(self, capacity: int, merge: Callable[[T, T], T] | None = None) -> None:
        if capacity < 1:
            raise ValueError(f"a channel holds at least one item, not {capacity}")
        self.capacity = capacity
        self.dropped = 0
        self._merge = merge
        self._items: deque[T] = deque()
        self._closed = False
        self._error: BaseException | None = None
        self._abandoned = False
        self._changes = Changes()

    def __len__(self) -> int:
        return len(self._items)

    async def put(self, item: T) -> None:
        """Adds an item, waiting while the channel is full."""
        await self._changes.wait_until(self._has_room)
        with self._changes:
            self._items.append(item)
            self._changes.announce()

    def put_from_thread(self, item: T) -> bool:
        """`put` for a thread: waits while the channel is full. False, and nothing added, once it is abandoned."""
        with self._changes:
            self._changes.wait_for(lambda: self._has_room() or self._abandoned)
            if self._abandoned:
                return False
            self._items.append(item)
            self._changes.announce()
        return True

    def post(self, item: T) -> None:
        """Adds an item at once, dropping the oldest where there is no room."""
        with self._changes:
            self._items.append(item)
            if len(self._items) > self.capacity:
                oldest = self._items.popleft()
                self.dropped += 1
                if self._merge is not None:
                    self._items[0] = self._merge(oldest, self._items[0])
            self._changes.announce()

    async def take(self) -> T:
        """The oldest item, waiting for one. Once the producer closed and none is left, raises its error or Closed."""
        return (await self.take_some(1))[0]

    async def take_some(self, most: int, is_last: Callable[[T], bool] | None = None) -> list[T]:
        """The oldest items, as many as there are up to `most`, none after the first that `is_last`; waits for one.

        Raises as `take` does.
        """
        await self._changes.wait_until(lambda: bool(self._items) or self._closed)
        with self._changes:
            if not self._items:
                raise self._error or Closed
            taken = [self._items.popleft()]
            while self._items and len(taken) < most and not (is_last is not None and is_last(taken[-1])):
                taken.append(self._items.popleft())
            self._changes.announce()
        return taken

    def close(self, error: BaseException | None = None) -> None:
        """Says that no more will come, and why where that is an `error`, which the taker then raises."""
        with self._changes:
            self._closed, self._error = True, error
            self._changes.announce()

    def abandon(self) -> None:
        """Says that nothing will be taken any more."""
        with self._changes:
            self._abandoned = True
            self._changes.announce()

    def _has_room(self) -> bool:
        return len(self._items) < self.capacity
