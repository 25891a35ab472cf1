"""Estimates on their way to another thread or loop: bounded, in order, every drop counted."""

from __future__ import annotations

import asyncio
import threading

import pytest

from stream.sinks.base import Sink
from stream.sinks.handover import MOST_PROVISIONAL, MOST_SETTLED, ROOM, Ended, Handover
from tests.stream.brokers import estimate, status


def test_it_is_a_sink() -> None:
    assert isinstance(Handover(), Sink)


def test_what_was_offered_is_taken_in_order_and_then_the_end() -> None:
    handover = Handover()
    for n in range(3):
        handover.offer(estimate(n))
    handover.end()
    assert [e.frame for e in handover.take_waiting()] == [0, 1, 2]
    with pytest.raises(Ended):
        handover.take_waiting()
    with pytest.raises(Ended):
        handover.take_one()


def test_an_error_comes_once_after_what_came_before_it() -> None:
    handover = Handover()
    handover.offer(estimate(0))
    handover.end(KeyError("engine"))
    assert handover.take_one().frame == 0
    with pytest.raises(KeyError, match="engine"):
        handover.take_one()
    with pytest.raises(Ended):
        handover.take_one()


def test_the_oldest_of_a_kind_goes_where_nobody_takes_in_time() -> None:
    handover = Handover()
    handover.offer(estimate(0, settled=True))
    for n in range(MOST_PROVISIONAL + 5):
        handover.offer(estimate(n))
    waiting = handover.take_waiting()
    assert [e.frame for e in waiting if not e.settled] == list(range(5, MOST_PROVISIONAL + 5))
    assert [e.frame for e in waiting if e.settled] == [0]
    assert handover.drops == {"caller_busy": 5}
    for n in range(MOST_SETTLED + 2):
        handover.offer(estimate(n, settled=True))
    assert handover.take_one().frame == 2
    assert handover.drops == {"caller_busy": 7}


def test_a_kind_that_is_not_wanted_is_left_out_and_no_drop() -> None:
    handover = Handover("settled")
    handover.offer(estimate(0))
    handover.offer(estimate(0, settled=True))
    assert [e.settled for e in handover.take_waiting()] == [True]
    assert handover.drops == {"caller_busy": 0}


async def test_a_recording_is_held_back_until_there_is_room() -> None:
    handover = Handover()
    await handover.ready()
    for n in range(ROOM):
        handover.offer(estimate(n))
    assert handover.is_full
    waiting = asyncio.create_task(handover.ready())
    await asyncio.sleep(0.05)
    assert not waiting.done()
    taker = threading.Thread(target=handover.take_one)
    taker.start()
    async with asyncio.timeout(5):
        await waiting
    taker.join()


async def test_a_loop_that_waits_is_woken_by_another_thread() -> None:
    handover = Handover()
    threading.Timer(0.05, lambda: handover.offer(estimate(7))).start()
    async with asyncio.timeout(5):
        assert (await handover.take_async()).frame == 7
    threading.Timer(0.05, handover.end).start()
    with pytest.raises(Ended):
        await handover.take_async()


def test_taking_gives_up_in_time() -> None:
    assert Handover().take_waiting(timeout_s=0.02) == []


def test_all_that_wait_are_taken_at_once_as_soon_as_there_are_any() -> None:
    handover = Handover()

    def offer() -> None:
        for n in range(3):
            handover.offer(estimate(n))
        handover.end(KeyError("engine"))

    timer = threading.Timer(0.05, offer)
    timer.start()
    taken: list[int] = []
    while len(taken) < 3:
        taken += [e.frame for e in handover.take_waiting(timeout_s=5.0)]
    timer.join()
    assert taken == [0, 1, 2]
    with pytest.raises(KeyError, match="engine"):
        handover.take_waiting(timeout_s=5.0)


def test_the_last_status_is_kept() -> None:
    handover = Handover()
    assert handover.status is None
    handover.offer_status(status(frames=9))
    assert handover.status is not None
    assert handover.status.frames == 9
