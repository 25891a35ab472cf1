"""Sinks of two methods: called in a thread of their own, waited for, closed, and heard when they fail."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING

import pytest

from models.errors import UserError
from stream.mqtt.sink import MqttSink
from stream.sinks import simple
from stream.sinks.base import Sink, attached
from stream.sinks.collect import CollectSink
from stream.sinks.handover import Handover
from stream.sinks.record import RecordSink
from stream.sinks.simple import ENGINE_NAMES, SimpleSink, SinkThread, as_sinks
from stream.view.terminal import TerminalSink
from tests.stream.brokers import estimate, until
from tests.stream.scripted import Collected

if TYPE_CHECKING:
    from stream.messages import Estimate


class Diary:
    """Writes down what it is given; fails, or waits for leave, where it is told to."""

    def __init__(self, fails_at: int | None = None, *, held: bool = False) -> None:
        self.taken: list[int] = []
        self.threads: set[str] = set()
        self.closed = 0
        self.closed_in = ""
        self.leave = threading.Event()
        self._fails_at = fails_at
        if not held:
            self.leave.set()

    def take(self, estimate: Estimate) -> None:
        self.leave.wait()
        if estimate.frame == self._fails_at:
            raise OSError("disk full")
        self.taken.append(estimate.frame)
        self.threads.add(threading.current_thread().name)

    def close(self) -> None:
        self.closed += 1
        self.closed_in = threading.current_thread().name


def as_sink(sink: Sink | SimpleSink) -> Sink:
    (made,) = as_sinks([sink])
    return made


async def offer(sink: Sink, frames: int) -> None:
    async with attached([sink]) as outlet:
        for n in range(frames):
            await outlet.ready()
            outlet.offer(estimate(n))
            await asyncio.sleep(0)
        await asyncio.sleep(0.1)


def test_two_methods_are_enough_and_ten_stay_as_they_are() -> None:
    assert isinstance(as_sink(Diary()), SinkThread)
    collected = Collected()
    assert as_sink(collected) is collected


async def test_it_is_given_everything_in_order_in_its_own_thread_and_closed_once() -> None:
    diary = Diary()
    sink = as_sink(diary)
    await offer(sink, 50)
    assert diary.taken == list(range(50))
    assert diary.threads == {"sink diary"}
    assert diary.closed == 1
    assert sink.drops == {"diary_busy": 0}
    assert sink.counters == {"diary_taken": 50}


async def test_what_waits_at_the_end_is_still_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    diary = Diary(held=True)
    threading.Timer(0.3, diary.leave.set).start()
    await offer(as_sink(diary), 20)
    assert diary.taken == list(range(20))


async def test_a_sink_that_fails_ends_the_run_with_its_error_and_is_closed() -> None:
    diary = Diary(fails_at=3)
    with pytest.raises(OSError, match="disk full"):
        await offer(as_sink(diary), 10)
    assert diary.taken == [0, 1, 2]
    assert diary.closed == 1


async def test_a_recording_waits_for_it_and_a_live_source_drops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simple, "QUEUE", 8)
    diary = Diary(held=True)
    sink = as_sink(diary)
    async with attached([sink]) as outlet:
        for n in range(20):
            outlet.offer(estimate(n))
        waiting = asyncio.create_task(sink.ready())
        await asyncio.sleep(0.05)
        assert not waiting.done()
        assert sink.drops["diary_busy"] >= 20 - 8 - 1
        diary.leave.set()
        await until(waiting.done)
    assert diary.taken[-1] == 19
    assert len(diary.taken) + sink.drops["diary_busy"] == 20


@pytest.mark.parametrize("fails_at", [None, 3])
async def test_it_is_closed_in_the_thread_that_it_took_in(fails_at: int | None) -> None:
    diary = Diary(fails_at)
    with suppress(OSError):
        await offer(as_sink(diary), 10)
    assert (diary.closed, {diary.closed_in}) == (1, diary.threads)


async def test_one_that_was_never_opened_is_closed_too() -> None:
    diary = Diary()
    await as_sink(diary).close()
    assert diary.closed == 1


@pytest.mark.parametrize("frames", [1, 5])
async def test_one_that_never_returns_is_left_behind_by_name(
    frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simple, "CLOSING_S", 0.3)
    diary = Diary(held=True)
    sink = as_sink(diary)
    lost = rf" and has lost {frames - 1} estimates" if frames > 1 else ""
    with pytest.raises(
        UserError, match=rf"the sink 'diary' was not done 0\.3 s after the end{lost}.*: let its"
    ):
        async with asyncio.timeout(5):
            await offer(sink, frames)
    assert sink.drops == {"diary_busy": frames - 1}
    diary.leave.set()
    await until(lambda: diary.closed == 1)
    assert diary.taken == [0]


async def test_what_close_raises_is_raised() -> None:
    class Forgetful(Diary):
        def close(self) -> None:
            super().close()
            raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        await offer(as_sink(Forgetful()), 2)
    with pytest.raises(OSError, match="disk full"):
        await offer(as_sink(Forgetful(fails_at=1)), 2)


async def test_its_thread_belongs_to_the_run() -> None:
    whose: ContextVar[str] = ContextVar("whose", default="nobody's")
    found: set[str] = set()

    class Asking:
        def take(self, estimate: Estimate) -> None:
            found.add(whose.get())

        def close(self) -> None:
            found.add(whose.get())

    whose.set("the run's")
    await offer(as_sink(Asking()), 2)
    assert found == {"the run's"}


def test_sinks_of_one_class_and_of_the_engine_are_told_apart() -> None:
    class Caller(Diary):
        pass

    class Diary2(Diary):
        pass

    given: list[Sink | SimpleSink] = [Diary(), Collected(), Diary(), Diary2(), Caller()]
    assert [sink.name for sink in as_sinks(given)] == [
        "diary",
        Collected.name,
        "diary2",
        "diary22",
        "caller2",
    ]
    own = (CollectSink, Handover, MqttSink, RecordSink, TerminalSink)
    assert {sink.name for sink in own} == ENGINE_NAMES
