"""Blocking work in a thread, which nothing can stop, awaited so that nothing of it is lost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


async def finish_in_thread(work: Callable[[], T], undo: Callable[[T], object] | None = None) -> T:
    """`asyncio.to_thread`, but that a cancellation waits for the thread to come to its end.

    What it made by then is `undo`ne, where it made something that must not stay open. Raises what the work raised.
    """
    working = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait([working])
        if undo is not None and not working.cancelled() and working.exception() is None:
            undo(working.result())
        raise
