"""Channels hold their producer back or drop the oldest, and count; nothing else gets lost or reordered."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.flow.channel import Channel, Closed


async def drain(channel: Channel[int]) -> list[int]:
    taken = []
    while True:
        try:
            taken.append(await channel.take())
        except Closed:
            return taken


async def test_put_waits_for_room_and_loses_nothing() -> None:
    channel: Channel[int] = Channel(2)

    async def produce() -> None:
        for i in range(50):
            await channel.put(i)
            assert len(channel) <= 2
        channel.close()

    producer = asyncio.create_task(produce())
    await asyncio.sleep(0)
    assert await drain(channel) == list(range(50))
    await producer
    assert channel.dropped == 0


@given(capacity=st.integers(1, 5), count=st.integers(0, 20))
def test_post_keeps_the_newest_and_counts_the_rest(capacity: int, count: int) -> None:
    async def scenario() -> tuple[list[int], int]:
        channel: Channel[int] = Channel(capacity)
        for i in range(count):
            channel.post(i)
        channel.close()
        return await drain(channel), channel.dropped

    taken, dropped = asyncio.run(scenario())
    assert taken == list(range(count))[-capacity:]
    assert dropped == count - len(taken)


@given(capacity=st.integers(1, 5), count=st.integers(1, 20))
def test_merge_keeps_what_must_not_go_in_order(capacity: int, count: int) -> None:
    async def scenario() -> list[tuple[int, ...]]:
        channel: Channel[tuple[int, ...]] = Channel(capacity, merge=lambda gone, following: gone + following)
        for i in range(count):
            channel.post((i,))
        channel.close()
        taken = []
        while True:
            try:
                taken.append(await channel.take())
            except Closed:
                return taken

    taken = asyncio.run(scenario())
    assert [i for item in taken for i in item] == list(range(count))
    assert len(taken) == min(capacity, count)


async def test_take_after_close_gives_what_is_left_then_says_so() -> None:
    channel: Channel[int] = Channel(3)
    await channel.put(1)
    channel.close()
    assert await channel.take() == 1
    with pytest.raises(Closed):
        await channel.take()


def test_a_channel_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Channel(0)


@given(st.lists(st.integers(1, 6)), st.integers(1, 8))
def test_some_are_taken_in_order_without_waiting_for_more(puts: list[int], capacity: int) -> None:
    async def scenario() -> None:
        channel: Channel[int] = Channel(capacity)
        count = 0
        for most in puts:
            for _ in range(capacity):
                await channel.put(count)
                count += 1
            first = count - capacity
            taken = await channel.take_some(most)
            assert taken == list(range(first, first + min(most, capacity)))
            while len(channel):
                await channel.take()
        channel.close()
        with pytest.raises(Closed):
            await channel.take_some(3)

    asyncio.run(scenario())


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.integers(1, 8))
def test_some_are_taken_up_to_the_last_of_a_batch(items: list[int], most: int) -> None:
    """Whatever is taken at a time, nothing is lost or moved, and a last one is the last that is taken."""

    async def scenario() -> None:
        channel: Channel[int] = Channel(len(items))
        for item in items:
            await channel.put(item)
        channel.close()
        taken: list[int] = []
        while len(channel):
            some = await channel.take_some(most, lambda item: item % 3 == 0)
            assert 1 <= len(some) <= most
            assert all(item % 3 for item in some[:-1])
            assert len(some) == most or some[-1] % 3 == 0 or not len(channel)
            taken += some
        assert taken == items

    asyncio.run(scenario())


def test_a_thread_waits_for_room_and_loses_nothing() -> None:
    async def scenario() -> list[int]:
        channel: Channel[int] = Channel(2)

        def produce() -> None:
            for i in range(200):
                assert channel.put_from_thread(i)
                assert len(channel) <= 2

        producer = asyncio.create_task(asyncio.to_thread(produce))
        producer.add_done_callback(lambda _: channel.close())
        taken = await drain(channel)
        await producer
        return taken

    assert asyncio.run(scenario()) == list(range(200))


async def test_a_thread_that_waits_for_room_is_sent_away_once_nothing_is_taken() -> None:
    channel: Channel[int] = Channel(1)
    assert channel.put_from_thread(1)
    waiting = asyncio.create_task(asyncio.to_thread(channel.put_from_thread, 2))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    channel.abandon()
    assert await waiting is False
    assert len(channel) == 1


async def test_the_producers_error_comes_after_what_it_had_put_in() -> None:
    channel: Channel[int] = Channel(3)
    await channel.put(1)
    channel.close(RuntimeError("the producer failed"))
    assert await channel.take() == 1
    with pytest.raises(RuntimeError, match="the producer failed"):
        await channel.take()


async def test_a_cancelled_taker_leaves_everything_to_the_next() -> None:
    channel: Channel[int] = Channel(3)
    taker = asyncio.create_task(channel.take())
    await asyncio.sleep(0)
    taker.cancel()
    await asyncio.sleep(0)
    await channel.put(7)
    assert await channel.take() == 7
