"""Mailboxes hold their producer back or drop the oldest, and count; nothing else gets lost or reordered."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.flow.mailbox import Closed, Mailbox


async def drain(mailbox: Mailbox[int]) -> list[int]:
    taken = []
    while True:
        try:
            taken.append(await mailbox.take())
        except Closed:
            return taken


async def test_put_waits_for_room_and_loses_nothing() -> None:
    mailbox: Mailbox[int] = Mailbox(2)

    async def produce() -> None:
        for i in range(50):
            await mailbox.put(i)
            assert len(mailbox) <= 2
        await mailbox.close()

    producer = asyncio.create_task(produce())
    await asyncio.sleep(0)
    assert await drain(mailbox) == list(range(50))
    await producer
    assert mailbox.dropped == 0


@given(capacity=st.integers(1, 5), count=st.integers(0, 20))
def test_post_keeps_the_newest_and_counts_the_rest(capacity: int, count: int) -> None:
    async def scenario() -> tuple[list[int], int]:
        mailbox: Mailbox[int] = Mailbox(capacity)
        for i in range(count):
            await mailbox.post(i)
        await mailbox.close()
        return await drain(mailbox), mailbox.dropped

    taken, dropped = asyncio.run(scenario())
    assert taken == list(range(count))[-capacity:]
    assert dropped == count - len(taken)


@given(capacity=st.integers(1, 5), count=st.integers(1, 20))
def test_merge_keeps_what_must_not_go_in_order(capacity: int, count: int) -> None:
    async def scenario() -> list[tuple[int, ...]]:
        mailbox: Mailbox[tuple[int, ...]] = Mailbox(capacity, merge=lambda gone, following: gone + following)
        for i in range(count):
            await mailbox.post((i,))
        await mailbox.close()
        taken = []
        while True:
            try:
                taken.append(await mailbox.take())
            except Closed:
                return taken

    taken = asyncio.run(scenario())
    assert [i for item in taken for i in item] == list(range(count))
    assert len(taken) == min(capacity, count)


async def test_take_after_close_gives_what_is_left_then_says_so() -> None:
    mailbox: Mailbox[int] = Mailbox(3)
    await mailbox.put(1)
    await mailbox.close()
    assert await mailbox.take() == 1
    with pytest.raises(Closed):
        await mailbox.take()


def test_a_mailbox_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Mailbox(0)


@given(st.lists(st.integers(1, 6)), st.integers(1, 8))
def test_some_are_taken_in_order_without_waiting_for_more(puts: list[int], capacity: int) -> None:
    async def scenario() -> None:
        mailbox: Mailbox[int] = Mailbox(capacity)
        count = 0
        for most in puts:
            for _ in range(capacity):
                await mailbox.put(count)
                count += 1
            first = count - capacity
            taken = await mailbox.take_some(most)
            assert taken == list(range(first, first + min(most, capacity)))
            while len(mailbox):
                await mailbox.take()
        await mailbox.close()
        with pytest.raises(Closed):
            await mailbox.take_some(3)

    asyncio.run(scenario())


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.integers(1, 8))
def test_some_are_taken_up_to_the_last_of_a_batch(items: list[int], most: int) -> None:
    """Whatever is taken at a time, nothing is lost or moved, and a last one is the last that is taken."""

    async def scenario() -> None:
        mailbox: Mailbox[int] = Mailbox(len(items))
        for item in items:
            await mailbox.put(item)
        await mailbox.close()
        taken: list[int] = []
        while len(mailbox):
            some = await mailbox.take_some(most, lambda item: item % 3 == 0)
            assert 1 <= len(some) <= most
            assert all(item % 3 for item in some[:-1])
            assert len(some) == most or some[-1] % 3 == 0 or not len(mailbox)
            taken += some
        assert taken == items

    asyncio.run(scenario())
