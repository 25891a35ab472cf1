"""Threads and tasks are woken by what either changes, and by nothing that has gone."""

from __future__ import annotations

import asyncio

from stream.flow.changes import Changes


async def test_a_task_is_woken_by_a_thread_and_looks_again() -> None:
    changes, seen = Changes(), 0

    def change(to: int) -> None:
        nonlocal seen
        with changes:
            seen = to
            changes.announce()

    waiting = asyncio.create_task(changes.wait_until(lambda: seen == 2))
    await asyncio.to_thread(change, 1)
    await asyncio.sleep(0)
    assert not waiting.done(), "what it waits for is not so yet"
    await asyncio.to_thread(change, 2)
    await asyncio.wait_for(waiting, 5)


async def test_a_thread_is_woken_by_a_task() -> None:
    changes, ready = Changes(), False

    def wait() -> bool:
        with changes:
            changes.wait_for(lambda: ready)
        return True

    waiting = asyncio.create_task(asyncio.to_thread(wait))
    with changes:
        ready = True
        changes.announce()
    assert await asyncio.wait_for(waiting, 5)


def test_a_loop_that_was_closed_while_it_waited_disturbs_nobody() -> None:
    changes = Changes()

    async def give_up() -> None:
        waiting = asyncio.create_task(changes.wait_until(lambda: False))
        await asyncio.sleep(0)
        waiting.cancel()

    asyncio.run(give_up())
    with changes:
        changes.announce()


async def test_a_cancelled_task_is_passed_over() -> None:
    changes = Changes()
    waiting = asyncio.create_task(changes.wait_until(lambda: False))
    await asyncio.sleep(0)
    waiting.cancel()
    with changes:
        changes.announce()
    await asyncio.sleep(0)
    assert waiting.cancelled()
