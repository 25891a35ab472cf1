"""The life of sinks: opened in order, run beside each other, closed whatever happens."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from models.errors import UserError
from stream.broker.connection import BrokerAddress
from stream.controls import Controls
from stream.messages import Estimate, Marker, Status, Transcript
from stream.metrics.sink import MetricsSink
from stream.mqtt.sink import MqttSink
from stream.page.options import PageOptions
from stream.page.sink import PageSink
from stream.sinks.base import Sink, attached
from stream.sinks.log import LogSink
from stream.sinks.record import RecordSink
from stream.view.terminal import TerminalSink
from tests.stream.brokers import estimate, status, until

if TYPE_CHECKING:
    from collections.abc import Mapping


class Diary:
    """A sink that writes down what happens to it, and fails where it is told to."""

    def __init__(self, name: str, diary: list[str], fails: str = "") -> None:
        self.name = name
        self.taken: list[Estimate | Status | Transcript | Marker] = []
        self._diary = diary
        self._fails = fails

    @property
    def drops(self) -> Mapping[str, int]:
        return {"queue": 1}

    @property
    def counters(self) -> Mapping[str, float]:
        return {f"{self.name}_taken": len(self.taken)}

    def _note(self, what: str) -> None:
        self._diary.append(f"{self.name} {what}")
        if self._fails == what:
            raise UserError(f"{self.name} cannot {what}")

    async def open(self) -> None:
        self._note("open")

    async def run(self) -> None:
        await asyncio.sleep(0.01)
        self._note("run")
        await asyncio.sleep(60)

    async def ready(self) -> None:
        pass

    def offer(self, estimate: Estimate) -> None:
        self.taken.append(estimate)

    def offer_status(self, status: Status) -> None:
        self.taken.append(status)

    def offer_transcript(self, transcript: Transcript) -> None:
        self.taken.append(transcript)

    def offer_marker(self, marker: Marker) -> None:
        self.taken.append(marker)

    async def close(self) -> None:
        self._note("close")


def test_all_sinks_are_sinks() -> None:
    broker = BrokerAddress("127.0.0.1", 1883)
    sinks = (
        Diary("a", []),
        LogSink("desk"),
        MetricsSink(),
        MqttSink(broker),
        PageSink(PageOptions(), Controls()),
        RecordSink(Path("out.jsonl")),
        TerminalSink(),
    )
    assert all(isinstance(sink, Sink) for sink in sinks)


async def test_every_sink_gets_everything_and_is_closed_last_first() -> None:
    diary: list[str] = []
    sinks = [Diary("a", diary), Diary("b", diary)]
    async with attached(sinks) as outlet:
        outlet.offer(estimate(0))
        outlet.offer_status(status())
        outlet.offer_transcript(Transcript(0, (), True))
        outlet.offer_marker(Marker("begin", 1.0, None, "python"))
        await outlet.ready()
        await asyncio.sleep(0.05)
    assert [len(sink.taken) for sink in sinks] == [4, 4]
    assert diary == ["a open", "b open", "a run", "b run", "b close", "a close"]
    assert outlet.drops == {"queue": 2}
    assert outlet.counters == {"a_taken": 4, "b_taken": 4}


async def test_a_sink_that_cannot_open_closes_those_before_it() -> None:
    diary: list[str] = []
    with pytest.raises(UserError, match="b cannot open"):
        async with attached([Diary("a", diary), Diary("b", diary, "open"), Diary("c", diary)]):
            pytest.fail("must not start")
    assert diary == ["a open", "b open", "b close", "a close"]


async def live(sinks: list[Diary], raises: BaseException | None = None) -> None:
    async with attached(sinks):
        await asyncio.sleep(0.1)
        if raises:
            raise raises


async def test_a_sink_that_dies_ends_the_run_with_its_own_error() -> None:
    diary: list[str] = []
    with pytest.raises(UserError, match="a cannot run"):
        await live([Diary("a", diary, "run"), Diary("b", diary)])
    assert diary[-2:] == ["b close", "a close"]


async def test_what_the_body_raises_goes_first_and_all_are_closed() -> None:
    diary: list[str] = []
    with pytest.raises(KeyError, match="body"):
        await live([Diary("a", diary), Diary("b", diary, "close")], KeyError("body"))
    assert diary[-2:] == ["b close", "a close"]


async def test_what_a_close_raises_is_heard() -> None:
    diary: list[str] = []
    with pytest.raises(UserError, match="b cannot close"):
        await live([Diary("a", diary), Diary("b", diary, "close")])
    assert diary[-1] == "a close"


async def test_cancelling_closes_all() -> None:
    diary: list[str] = []
    task = asyncio.create_task(live([Diary("a", diary), Diary("b", diary)]))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert diary[-2:] == ["b close", "a close"]


class Slow(Diary):
    """Takes its time to close."""

    async def close(self) -> None:
        self._note("closing")
        await asyncio.sleep(60)


async def test_cancelled_once_more_while_one_is_closed_the_others_are_closed_too() -> None:
    diary: list[str] = []
    task = asyncio.create_task(live([Diary("a", diary), Slow("b", diary)]))
    for awaited in ("b run", "b closing"):
        await until(partial(diary.__contains__, awaited))
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert diary[-1] == "a close"


async def test_cancelled_again_while_one_closes_the_others_are_closed_all_the_same() -> None:
    diary: list[str] = []

    class Slow(Diary):
        async def close(self) -> None:
            await asyncio.sleep(60)

    living = asyncio.create_task(live([Diary("a", diary), Slow("b", diary)]))
    for _ in range(2):
        await asyncio.sleep(0.05)
        living.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(living, 10)
    assert diary[-1] == "a close"


async def test_a_sink_closes_in_a_task_that_was_not_cancelled() -> None:
    """In one that was, Python 3.11.2 makes a cancellation of every timeout."""
    marks: list[int] = []

    class Closing(Diary):
        async def close(self) -> None:
            task = asyncio.current_task()
            assert task is not None
            marks.append(task.cancelling())

    living = asyncio.create_task(live([Closing("a", [])]))
    await asyncio.sleep(0.05)
    living.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(living, 10)
    assert marks == [0]
