"""What waits to be published: bounded, in order, counted where it is lost; and thinning."""

from __future__ import annotations

import asyncio
from collections import Counter

import aiomqtt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.mqtt.waiting import Thinner, Waiting


class Wire:
    """A connection that takes messages, or breaks after so many."""

    def __init__(self, breaks_after: int | None = None) -> None:
        self.got: list[int] = []
        self._breaks_after = breaks_after

    async def __call__(self, message: int) -> None:
        await asyncio.sleep(0)
        if len(self.got) == self._breaks_after:
            raise aiomqtt.MqttError("cut")
        self.got.append(message)


async def test_more_than_it_holds_push_the_oldest_out() -> None:
    drops: Counter[str] = Counter()
    waiting: Waiting[int] = Waiting(4, drops, pushed_out="full", lost="lost")
    waiting.connect()
    for number in range(10):
        waiting.offer(number)
    assert drops == {"full": 6}
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(waiting.ready(), 0.02)
    wire = Wire()
    await waiting.send_waiting(wire)
    await asyncio.wait_for(waiting.ready(), 0.02)
    assert wire.got == [6, 7, 8, 9]


async def test_without_a_connection_nothing_is_kept_and_all_is_counted() -> None:
    drops: Counter[str] = Counter()
    waiting: Waiting[int] = Waiting(8, drops, pushed_out="full", lost="lost")
    waiting.offer(0)
    waiting.connect()
    for number in range(1, 6):
        waiting.offer(number)
    with pytest.raises(aiomqtt.MqttError):
        await waiting.send(Wire(breaks_after=2))
    waiting.disconnect()
    waiting.offer(6)
    assert len(waiting) == 0
    assert drops == {"lost": 5}, "the first, the one on the wire, the two behind it, and the last"


async def test_what_was_on_its_way_when_the_connection_was_lost_is_counted() -> None:
    """Another topic notices the loss first; sending is called off then, as it is at the end of a run."""
    for lost in (True, False):
        drops: Counter[str] = Counter()
        waiting: Waiting[int] = Waiting(8, drops, pushed_out="full", lost="lost")
        waiting.connect()
        waiting.offer(1)

        async def never(message: int) -> None:
            await asyncio.Event().wait()

        sending = asyncio.create_task(waiting.send(never))
        await asyncio.sleep(0)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        if lost:
            waiting.disconnect()
            waiting.disconnect()
        assert drops == ({"lost": 1} if lost else {})


async def test_what_must_not_be_lost_waits_for_the_next_connection() -> None:
    drops: Counter[str] = Counter()
    waiting: Waiting[int] = Waiting(8, drops, pushed_out="full", lost=None)
    for number in range(3):
        waiting.offer(number)
    waiting.connect()
    with pytest.raises(aiomqtt.MqttError):
        await waiting.send(Wire(breaks_after=1))
    waiting.disconnect()
    waiting.offer(3)
    waiting.connect()
    wire = Wire()
    sending = asyncio.create_task(waiting.send(wire))
    await asyncio.sleep(0.02)
    waiting.offer(4)
    await asyncio.sleep(0.02)
    sending.cancel()
    assert wire.got == [1, 2, 3, 4]
    assert not drops.total()


@settings(deadline=None)
@given(rate=st.floats(0.5, 60), frame_rate=st.floats(5, 120), seconds=st.integers(1, 20))
def test_thinning_keeps_its_rate_and_drops_nothing_it_need_not(
    rate: float, frame_rate: float, seconds: int
) -> None:
    thinner = Thinner(rate)
    taken = sum(thinner.takes(frame / frame_rate) for frame in range(int(frame_rate * seconds)))
    assert taken <= rate * seconds + 1
    assert taken >= min(int(frame_rate * seconds), int(rate * (seconds - 1 / frame_rate))) * 0.99 - 1
