"""Commands from the broker: obeyed or not, every one of them answered but old ones."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections import Counter
from collections.abc import Callable

import aiomqtt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import UserError
from stream.controls import Controls
from stream.messages import CommandOutcome, EngineCommand, Marker, Origin
from stream.mqtt.commands import Acknowledgement, CommandDesk, read_marker
from stream.mqtt.sink import MqttSink
from stream.schemas import complaint
from stream.sinks.base import attached
from tests.stream.brokers import Mosquitto, Subscriber, publish, until

Subscribe = Callable[[int], Subscriber]


class Told:
    """Instead of an engine: notes what it is told, and passes markers on."""

    def __init__(self) -> None:
        self.heard: list[EngineCommand] = []
        self.marked: list[tuple[str, Origin, float | None]] = []

    def command(self, command: EngineCommand) -> CommandOutcome:
        self.heard.append(command)
        return CommandOutcome(True)

    def mark(self, text: str, origin: Origin, marked_at: float | None = None) -> Marker:
        self.marked.append((text, origin, marked_at))
        return Marker(text, marked_at or 1.7e9, None, origin)


def asked(name: str, payload: bytes = b"", *, retain: bool = False) -> aiomqtt.Message:
    return aiomqtt.Message(f"affect/me/set/{name}", payload, 1, retain, 1, None)


def controlled(engine: Told) -> Controls:
    controls = Controls()
    controls.attach(engine)
    return controls


async def test_commands_are_heard_except_old_and_unknown_ones(mosquitto: Mosquitto) -> None:
    publish(mosquitto.port, "affect/me/set/pause", "", "--retain")
    publish(mosquitto.port, "affect/me/set/pause", "old", "--retain")
    engine = Told()
    sink = MqttSink(mosquitto.address, publisher_id="me", controls=controlled(engine))
    async with attached([sink]):
        await until(lambda: sink.counters.get("mqtt_commands_retained") == 1)
        for command in ("pause", "resume", "explode", "recenter"):
            await asyncio.to_thread(publish, mosquitto.port, f"affect/me/set/{command}", "")
        await until(lambda: len(engine.heard) == 3)
    assert engine.heard == ["pause", "resume", "recenter"]
    assert sink.counters["mqtt_commands_unknown"] == 1


async def test_each_is_answered_whether_obeyed_or_not(mosquitto: Mosquitto, subscribe: Subscribe) -> None:
    publish(mosquitto.port, "affect/me/set/pause", "old", "--retain")
    seen = subscribe(mosquitto.port)
    engine = Told()
    async with attached([MqttSink(mosquitto.address, publisher_id="me", controls=controlled(engine))]):
        for command, payload in (
            ("pause", ""),
            ("explode", "now"),
            ("marker", "question 1"),
            ("marker", '{"text": "question 2", "at": 1700000000.5}'),
            ("marker", '{"text": "question 3", "at": "noon"}'),
            ("marker", ""),
            ("marker", "{text: 4}"),
        ):
            await asyncio.to_thread(publish, mosquitto.port, f"affect/me/set/{command}", payload)
        await until(lambda: len(seen.payloads("affect/me/ack")) == 7)
    answers = [json.loads(payload) for payload in seen.payloads("affect/me/ack")]
    assert all(complaint("ack", answer) is None for answer in answers)
    assert [(a["command"], a["obeyed"]) for a in answers] == [
        ("pause", True),
        ("explode", False),
        ("marker", True),
        ("marker", True),
        ("marker", False),
        ("marker", False),
        ("marker", False),
    ]
    assert [a["reason"] == "" for a in answers] == [a["obeyed"] for a in answers]
    assert "there are pause, resume, recenter, marker" in answers[1]["reason"]
    assert engine.marked == [("question 1", "mqtt", None), ("question 2", "mqtt", 1_700_000_000.5)]


async def test_before_the_run_has_begun_and_without_controls_the_answer_says_so(
    mosquitto: Mosquitto, subscribe: Subscribe
) -> None:
    seen = subscribe(mosquitto.port)
    sinks = [
        MqttSink(mosquitto.address, publisher_id="early", controls=Controls()),
        MqttSink(mosquitto.address, publisher_id="deaf"),
    ]
    async with attached(sinks):
        for name in ("early", "deaf"):
            for command in ("pause", "marker"):
                await asyncio.to_thread(publish, mosquitto.port, f"affect/{name}/set/{command}", "x")
            await until(lambda name=name: len(seen.payloads(f"affect/{name}/ack")) == 2)  # type: ignore[misc]
    for name, why in (("early", "the run has not begun"), ("deaf", "takes no commands")):
        for payload in seen.payloads(f"affect/{name}/ack"):
            assert json.loads(payload)["obeyed"] is False
            assert why in json.loads(payload)["reason"]


async def test_in_mqtt_5_the_answer_goes_where_it_is_wanted_with_its_correlation(
    mosquitto: Mosquitto, subscribe: Subscribe
) -> None:
    seen = subscribe(mosquitto.port)
    async with attached([MqttSink(mosquitto.address, publisher_id="me", controls=controlled(Told()))]):
        command = (
            f"mosquitto_rr -p {mosquitto.port} -V 5 -W 5 -t affect/me/set/pause -n -e affect/other/answers"
        )
        words = [*command.split(), "-D", "publish", "correlation-data", "42", "-F", "%D %C %E %p"]
        ran = await asyncio.to_thread(
            subprocess.run, words, capture_output=True, text=True, timeout=10, check=True
        )
        await until(lambda: seen.payloads("affect/me/ack"))
    correlation, content_type, expiry, payload = ran.stdout.strip().split(" ", 3)
    assert (correlation, content_type, expiry) == ("42", "application/json", "60")
    assert json.loads(payload) == json.loads(seen.payloads("affect/me/ack")[0])
    assert json.loads(payload)["correlation"] == "3432"


@pytest.mark.parametrize("topic", ["a/+", "a/#", "$SYS/a", "affect/me/set/pause"])
def test_an_answer_goes_nowhere_where_it_would_be_a_command_or_no_topic(topic: str) -> None:
    message = asked("pause")
    message.properties = type("Properties", (), {"ResponseTopic": topic, "CorrelationData": b"1"})()
    answer = CommandDesk(controlled(Told()), Counter()).take(message)
    assert answer == Acknowledgement("pause", CommandOutcome(True), b"1", None)


@pytest.mark.parametrize(
    ("payload", "marker"),
    [
        (b"question 2", ("question 2", None)),
        ("größer".encode(), ("größer", None)),
        (b'"quoted"', ('"quoted"', None)),
        (b'{"text": "a"}', ("a", None)),
        (b' {"text": "a", "at": 12}', ("a", 12.0)),
        (b'{"text": "a", "at": null}', ("a", None)),
    ],
)
def test_a_marker_is_text_or_json(payload: bytes, marker: tuple[str, float | None]) -> None:
    assert read_marker(payload) == marker


@pytest.mark.parametrize(
    "payload",
    [
        b"\xff",
        b"{",
        b"{" * 3000,
        b"x" * 5000,
        b'{"at": 3}',
        b'{"text": 3}',
        b'{"text": "a", "time": 3}',
        b'{"text": "a", "at": "now"}',
        b'{"text": "a", "at": true}',
        b'{"text": "a", "at": NaN}',
        b'{"text": "a", "at": -1}',
        b'{"text": "a", "at": 1e300}',
        b'{"text": "a", "at": 1' + b"0" * 400 + b"}",
    ],
)
def test_what_is_no_marker_is_one_line_with_an_example(payload: bytes) -> None:
    with pytest.raises(ValueError, match="question 2") as refused:
        read_marker(payload)
    assert "\n" not in str(refused.value)


@given(name=st.text(min_size=1).filter(lambda text: not set(text) & set("/+#\0")), payload=st.binary())
def test_whatever_is_asked_has_an_answer_that_fits_its_schema(name: str, payload: bytes) -> None:
    class Refusing(Told):
        def mark(self, text: str, origin: Origin, marked_at: float | None = None) -> Marker:
            raise UserError("not now")

    desk = CommandDesk(controlled(Refusing()), Counter())
    for command in (name, "marker"):
        answer = desk.take(asked(command, payload))
        assert answer is not None
        assert not answer.outcome.obeyed or name in ("pause", "resume", "recenter")
        assert complaint("ack", json.loads(json.dumps(answer.to_json()))) is None


def test_a_marker_that_cannot_be_is_counted() -> None:
    counters: Counter[str] = Counter()
    CommandDesk(controlled(Told()), counters).take(asked("marker", b"{"))
    assert counters == {"mqtt_commands": 1, "mqtt_commands_malformed": 1}
