"""Work in a thread, awaited so that nothing of it is lost."""

from __future__ import annotations

import asyncio
import threading

import pytest

from stream.flow.threads import finish_in_thread


async def test_what_it_makes_is_given_and_what_it_raises_is_raised() -> None:
    assert await finish_in_thread(lambda: 5) == 5
    with pytest.raises(ZeroDivisionError):
        await finish_in_thread(lambda: 1 // 0)


@pytest.mark.parametrize("fails", [False, True])
async def test_a_cancellation_waits_for_the_thread_and_undoes_what_it_made(fails: bool) -> None:
    begun, going_on = threading.Event(), threading.Event()
    undone: list[str] = []

    def work() -> str:
        begun.set()
        going_on.wait(30)
        if fails:
            raise OSError("too late to matter")
        return "made"

    running = asyncio.create_task(finish_in_thread(work, undone.append))
    await asyncio.to_thread(begun.wait, 30)
    running.cancel()
    await asyncio.sleep(0.05)
    assert not running.done()
    going_on.set()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running, 30)
    assert undone == ([] if fails else ["made"])
