"""Watching: every publisher shown, bad messages counted, a lost broker sought again, and ends for scripts."""

from __future__ import annotations

import asyncio
import io
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from models.errors import UserError
from stream.broker.connection import BrokerAddress
from stream.flow.backoff import Backoff
from stream.mqtt.sink import MqttSink
from stream.mqtt.topics import encode
from stream.sinks.base import attached
from stream.view.watch import MOST_PUBLISHERS, MOST_REMEMBERED, Repeats, Watched, Watcher, watch
from tests.stream.brokers import Mosquitto, estimate, free_port, publish, status, until

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    import aiomqtt

NAUGHTY = [
    b"",
    b"{",
    b"null",
    b"[]",
    b"\xff\xfe",
    b'{"schema": 1}',
    b'{"valence": NaN}',
    b"[" * 100_000,
    b"9" * 10_000,
    encode({**estimate(0).to_json(), "valence": 7}),
    encode({**estimate(0).to_json(), "frame": "one"}),
    encode({**estimate(0).to_json(), "captured_at": 0}).replace(b'"captured_at":0', b'"captured_at":1e999'),
    encode({**status().to_json(), "frame_rate": 10**400}),
    encode({**status().to_json(), "latency_ms": {"p50": 10**400, "p95": 1, "p99": 1}}),
]


@pytest.mark.parametrize("payload", NAUGHTY)
@pytest.mark.parametrize("kind", ["estimate", "settled", "state", "status", "transcript", "available"])
def test_what_is_malformed_is_counted_and_changes_nothing(kind: str, payload: bytes) -> None:
    watcher = Watcher()
    watcher.take("affect/me/status", encode(status().to_json()))
    before = [line.plain for line in watcher.panels[0].lines(80, 24)[:-1]]
    watcher.take(f"affect/me/{kind}", payload)
    assert watcher.watched.malformed == (payload != b"")
    assert [line.plain for line in watcher.panels[0].lines(80, 24)[:-1]] == before
    assert watcher.watched.total == 2
    if payload:
        assert "1 malformed" in watcher.panels[0].lines(200, 24)[-1].plain


@settings(deadline=None)
@given(topic=st.text(), payload=st.binary())
def test_no_message_can_crash_it(topic: str, payload: bytes) -> None:
    watcher = Watcher()
    watcher.take(topic, payload)
    for kind in ("estimate", "status", "available", "set/pause", "unknown"):
        watcher.take(f"affect/x/{kind}", payload)
    for panel in watcher.panels:
        panel.lines(80, 24)


def test_each_publisher_has_a_panel_and_too_many_are_counted() -> None:
    watcher = Watcher()
    for number in range(MOST_PUBLISHERS + 5):
        watcher.take(f"affect/p{number:02}/available", b"online")
    assert [panel.name for panel in watcher.panels] == [f"p{n:02}" for n in range(MOST_PUBLISHERS)]
    assert watcher.watched.overlooked == 5
    assert "5 messages of further publishers" in watcher.panels[0].hint


class Joined:
    """Knows when a watcher is there to hear what is published."""

    def __init__(self) -> None:
        self._is_there = asyncio.Event()

    def take(self, publisher_id: str, kind: str, message: Mapping[str, Any] | str) -> None:
        """Whatever it is."""

    def connected(self, client: aiomqtt.Client | None) -> None:
        if client is not None:
            self._is_there.set()

    async def wait(self) -> None:
        async with asyncio.timeout(30):
            await self._is_there.wait()


async def test_two_publishers_are_shown_and_counted(mosquitto: Mosquitto) -> None:
    out = io.StringIO()
    console = Console(file=out, width=200)
    joined = Joined()
    watching = asyncio.create_task(watch(mosquitto.address, seconds=4, console=console, listener=joined))
    await joined.wait()
    sinks = [MqttSink(mosquitto.address, publisher_id=name) for name in ("desk", "sofa")]
    async with attached(sinks) as outlet:
        outlet.offer_status(status())
        for frame in range(30):
            outlet.offer(estimate(frame))
            outlet.offer(estimate(frame, settled=True))
            await asyncio.sleep(0.01)
        await asyncio.to_thread(publish, mosquitto.port, "affect/desk/estimate", "nonsense")
        await asyncio.sleep(0.1)
    watched = await watching
    assert watched.messages["estimate"] == 61
    assert watched.messages["settled"] == 60
    assert watched.malformed == 1
    assert watched.missed == 0
    shown = out.getvalue()
    assert "desk summary" in shown
    assert "sofa summary" in shown
    assert "UNTRAINED" in shown


async def test_one_publisher_can_be_chosen(mosquitto: Mosquitto) -> None:
    out = io.StringIO()
    for name in ("desk", "sofa"):
        publish(mosquitto.port, f"affect/{name}/available", "online", "--retain")
    watched = await watch(mosquitto.address, publisher_id="sofa", as_json=True, seconds=0.5, output=out)
    assert watched.messages == {"available": 1}
    assert json.loads(out.getvalue()) == {"topic": "affect/sofa/available", "payload": "online"}
    with pytest.raises(UserError, match="cannot be part of a topic"):
        await watch(mosquitto.address, publisher_id="a/b")


async def test_json_lines_end_after_so_many(mosquitto: Mosquitto) -> None:
    out = io.StringIO()
    joined = Joined()
    watching = asyncio.create_task(
        watch(mosquitto.address, as_json=True, count=5, output=out, listener=joined)
    )
    await joined.wait()
    for payload in (encode(estimate(0).to_json()), b"nonsense", b"\xff", b"{}", b"1", b"2"):
        await asyncio.to_thread(publish, mosquitto.port, "affect/me/estimate", payload)
    watched = await asyncio.wait_for(watching, 30)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["payload"] for line in lines] == [estimate(0).to_json(), "nonsense", "\ufffd", {}, 1]
    assert watched.total == 5
    assert watched.malformed == 4


async def test_a_broker_that_goes_away_is_found_again(mosquitto: Mosquitto) -> None:
    out, joined = io.StringIO(), Joined()
    watching = asyncio.create_task(
        watch(
            mosquitto.address, as_json=True, count=2, output=out, backoff=Backoff(0.05, 0.2), listener=joined
        )
    )
    await joined.wait()
    await asyncio.to_thread(publish, mosquitto.port, "affect/me/available", "online")
    await until(lambda: out.getvalue().count("\n") == 1)
    mosquitto.kill()
    await asyncio.sleep(0.3)
    assert not watching.done()
    mosquitto.start()
    await asyncio.to_thread(publish, mosquitto.port, "affect/me/available", "stopped", "--retain")
    watched = await asyncio.wait_for(watching, 30)
    assert watched.connections == 2


async def test_no_broker_at_the_start_is_one_clear_line() -> None:
    port = free_port()
    with pytest.raises(UserError, match=rf"127\.0\.0\.1:{port} .*refused"):
        await watch(BrokerAddress("127.0.0.1", port), seconds=1)


async def test_cancelling_leaves_nothing_behind(mosquitto: Mosquitto) -> None:
    before = asyncio.all_tasks()
    watching = asyncio.create_task(watch(mosquitto.address, console=Console(file=io.StringIO())))
    await asyncio.sleep(0.2)
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
    await until(lambda: asyncio.all_tasks() == before, timeout_s=3)


WATCHER = """
import sys
from stream.broker.connection import BrokerAddress, run
from stream.view.watch import watch
run(watch(BrokerAddress("127.0.0.1", int(sys.argv[1])), as_json=True))
"""


async def test_head_can_read_the_first_line(mosquitto: Mosquitto) -> None:
    reading, writing = os.pipe()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", WATCHER, str(mosquitto.port)),
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])},
        stdout=writing,
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(writing)
    await asyncio.to_thread(publish, mosquitto.port, "affect/me/available", "online", "--retain")
    line = await asyncio.to_thread(os.read, reading, 1000)
    os.close(reading)
    assert json.loads(line)["payload"] == "online"
    await asyncio.to_thread(publish, mosquitto.port, "affect/me/available", "stopped")
    _, complaints = await asyncio.wait_for(process.communicate(), 10)
    assert complaints == b""
    assert process.returncode == 0


async def test_by_a_name_it_catches_up_with_what_came_while_it_was_away(mosquitto: Mosquitto) -> None:
    def watching(**more: Any) -> Coroutine[Any, Any, Watched]:
        return watch(mosquitto.address, publisher_id="me", as_json=True, output=out, catch_up="notes", **more)

    out = io.StringIO()
    assert (await watching(seconds=0.3)).connections == 1
    async with attached([MqttSink(mosquitto.address, publisher_id="me")]) as outlet:
        for frame in range(5):
            outlet.offer(estimate(frame, settled=True))
        await asyncio.sleep(0.2)
    watched = await watching(seconds=0.5)
    assert watched.messages["settled"] == 5
    frames = [json.loads(line)["payload"]["frame"] for line in out.getvalue().splitlines() if "frame" in line]
    assert [each for each in frames if isinstance(each, int)][:5] == [0, 1, 2, 3, 4]
    with pytest.raises(UserError, match="cannot be part"):
        await watch(mosquitto.address, catch_up="a/b")


async def test_what_comes_a_second_time_is_passed_over_and_counted(mosquitto: Mosquitto) -> None:
    out, joined = io.StringIO(), Joined()
    watching = asyncio.create_task(
        watch(mosquitto.address, publisher_id="me", as_json=True, output=out, count=5, listener=joined)
    )
    await joined.wait()
    for topic, payload in (
        *(("settled", encode(estimate(frame, settled=True).to_json())) for frame in (0, 1, 0, 1, 2)),
        *(("state", encode(estimate(2).to_state())) for _ in range(2)),
    ):
        await asyncio.to_thread(publish, mosquitto.port, f"affect/me/{topic}", payload)
    watched = await asyncio.wait_for(watching, 30)
    assert watched.repeated == 2
    assert watched.messages == {"settled": 3, "state": 2}
    assert len(out.getvalue().splitlines()) == 5


def test_repeats_are_known_among_as_many_as_can_be_on_their_way() -> None:
    repeats = Repeats()
    for round_ in range(3):
        for frame in range(MOST_REMEMBERED // 2):
            assert repeats.is_one("affect/me/settled", b"%d" % frame) is (round_ > 0)
    assert not repeats.is_one("affect/you/settled", b"0")
    assert not repeats.is_one("affect/me/estimate", b"0")
    assert not repeats.is_one("affect/me/estimate", b"0")
