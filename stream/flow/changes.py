"""What threads and tasks of an event loop wait for: changes of a state that one lock guards."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Changes:
    """The lock (`with changes:`) around a state that several threads and event loops share, and its changes.

    Whoever changes the state announces it with the lock held; threads wait with it held, as of a
    `threading.Condition`, and tasks without. It is held for a few instructions only: an event loop never waits for it
    noticeably.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._waiting_tasks: list[asyncio.Future[None]] = []

    def __enter__(self) -> None:
        self._condition.acquire()

    def __exit__(self, *raised: object) -> None:
        self._condition.release()

    def wait(self, timeout_s: float | None = None) -> None:
        """With the lock held, which is given up meanwhile: blocks this thread until a change, or so long at most."""
        self._condition.wait(timeout_s)

    def wait_for(self, is_so: Callable[[], bool]) -> None:
        """With the lock held, which is given up meanwhile: blocks this thread until a test holds."""
        self._condition.wait_for(is_so)

    async def wait_until(self, is_so: Callable[[], bool]) -> None:
        """Waits on the running event loop until a test, which is made with the lock held, holds."""
        while True:
            with self:
                if is_so():
                    return
                change = asyncio.get_running_loop().create_future()
                self._waiting_tasks.append(change)
            await change

    def announce(self) -> None:
        """With the lock held, from any thread: wakes whoever waits."""
        self._condition.notify_all()
        for change in self._waiting_tasks:
            with suppress(RuntimeError):  # its loop was closed, and nobody waits there any more
                change.get_loop().call_soon_threadsafe(_wake, change)
        self._waiting_tasks.clear()


def _wake(change: asyncio.Future[None]) -> None:
    if not change.done():  # its task may have been cancelled meanwhile
        change.set_result(None)
