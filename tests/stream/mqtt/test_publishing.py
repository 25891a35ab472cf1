"""How messages are published: with properties in MQTT 5, the same without in 3.1.1."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import aiomqtt
import pytest

from models.errors import UserError
from stream.broker.connection import BrokerAddress, connect, disconnect
from stream.broker.credentials import EmbeddedAddress
from stream.broker.embedded import EmbeddedBroker
from stream.broker.mqtt5 import speaks_mqtt5
from stream.flow.backoff import Backoff
from stream.messages import Marker
from stream.mqtt.publishing import Publisher
from stream.mqtt.sink import MqttSink
from stream.mqtt.topics import PUBLISHED
from stream.sinks.base import attached
from tests.stream.brokers import Mosquitto, estimate, status, until

if TYPE_CHECKING:
    from pathlib import Path

FORM = "%t|%C|%E|%P|%F|%r"


class Listening:
    """A real `mosquitto_sub` in MQTT 5 that prints properties."""

    def __init__(self, port: int) -> None:
        command = f"mosquitto_sub -V 5 -p {port} -q 1 -t affect/# --retain-as-published -F {FORM}"
        self._process = subprocess.Popen(command.split(), stdout=subprocess.PIPE, text=True)

    def lines(self, *last: str) -> dict[str, list[str]]:
        """What was heard of each topic, once the `last` line has come."""
        heard: dict[str, list[str]] = {}
        assert self._process.stdout is not None
        for line in self._process.stdout:
            topic, *properties = line.rstrip("\n").split("|")
            heard[topic.rpartition("/")[2]] = properties
            if topic.rpartition("/")[2] in last and len(heard) > 5:
                break
        self._process.kill()
        self._process.communicate()
        return heard


async def test_in_mqtt_5_each_topic_says_what_it_is_and_how_long_it_is_worth_delivering(
    mosquitto: Mosquitto,
) -> None:
    listening = Listening(mosquitto.port)
    await asyncio.sleep(0.5)
    async with attached([MqttSink(mosquitto.address, publisher_id="me")]) as outlet:
        outlet.offer_status(status())
        outlet.offer_marker(Marker("a", 1.7e9, 1.0, "python"))
        outlet.offer(estimate(0))
        outlet.offer(estimate(0, settled=True))
        await asyncio.sleep(0.3)
    heard = await asyncio.wait_for(asyncio.to_thread(listening.lines, "available"), 10)
    assert heard["estimate"] == ["application/json", "5", "schema:1", "1", "0"]
    assert heard["settled"] == ["application/json", "", "schema:1", "1", "0"]
    assert heard["marker"] == ["application/json", "", "schema:1", "1", "0"]
    assert heard["state"] == heard["status"] == ["application/json", "", "schema:1", "1", "1"]
    assert heard["available"] == ["text/plain", "", "schema:1", "1", "1"]


async def test_a_broker_without_mqtt_5_is_spoken_to_in_what_it_has_also_with_a_will_and_a_password() -> None:
    async with EmbeddedBroker.at(EmbeddedAddress("127.0.0.1", 0, "me", "right")) as broker:
        # As another program sees it that does not know what the broker has: amqtt does not even answer to this one.
        unknown = replace(broker.address, mqtt5=True)
        will = aiomqtt.Will("affect/me/available", b"offline", qos=1, retain=True)
        client = await connect(unknown, identifier="someone", will=will)
        assert not speaks_mqtt5(client)
        counters: Counter[str] = Counter()
        publisher = Publisher(client, "affect/me", counters)
        await client.subscribe("affect/#", qos=1)
        for topic in PUBLISHED:
            await publisher.publish(topic, b"{}")
        await publisher.publish_as("ack", b"{}", "affect/elsewhere", b"42")
        async with asyncio.timeout(5):
            heard = [str((await anext(client.messages)).topic) for _ in range(len(PUBLISHED) + 1)]
        assert heard == [*(f"affect/me/{topic}" for topic in PUBLISHED), "affect/elsewhere"]
        assert counters == {"mqtt_published": len(PUBLISHED) + 1}
        await disconnect(client)


async def test_what_a_broker_speaks_is_remembered_for_the_next_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[bool] = []

    async def asking(address: BrokerAddress, **options: Any) -> aiomqtt.Client:
        asked.append(address.mqtt5)
        return await connect(address, **options)

    monkeypatch.setattr("stream.mqtt.sink.connect", asking)
    backoff = Backoff(first_s=0.05, most_s=0.2)
    async with EmbeddedBroker(0) as first:
        port = first.address.port
        sink = MqttSink(BrokerAddress("127.0.0.1", port), publisher_id="me", backoff=backoff)
        begun = attached([sink])
        await begun.__aenter__()
    await until(lambda: not sink.connected)
    async with EmbeddedBroker(port):
        await until(lambda: sink.connected)
        await begun.__aexit__(None, None, None)
    assert set(asked) == {False}


def guarded(folder: Path, rules: str) -> Mosquitto:
    """A broker that lets its user `me` (password `right`) do what the rules say, and nobody else in."""
    if shutil.which("mosquitto_passwd") is None:
        pytest.skip("mosquitto_passwd is not installed")
    subprocess.run(["mosquitto_passwd", "-c", "-b", folder / "passwords", "me", "right"], check=True)
    (folder / "rules").write_text(f"user me\n{rules}\n")
    (folder / "rules").chmod(0o700)
    # Without bounds mosquitto 2.0.11 ends a connection of MQTT 5 at the second message that it refuses.
    files = f"password_file {folder}/passwords\nacl_file {folder}/rules"
    broker = Mosquitto(folder, files, allow_anonymous=False, bounded=True)
    broker.start()
    return broker


async def test_what_the_broker_refuses_is_no_delivery_but_counted_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broker = guarded(tmp_path, "topic write affect/me/available\ntopic write affect/me/state")
    sink = MqttSink(BrokerAddress.parse(f"mqtt://me:right@127.0.0.1:{broker.port}"), publisher_id="me")
    try:
        async with asyncio.timeout(20), attached([sink]) as outlet:
            for frame in range(5):
                outlet.offer(estimate(frame, settled=True))
            await until(lambda: sink.drops.get("mqtt_refused") == 5)
            outlet.offer(estimate(6))
            await until(lambda: sink.counters["mqtt_published"] == 3)
    finally:
        broker.kill()
    said = [record.getMessage() for record in caplog.records if "affect/me/settled" in record.getMessage()]
    assert len(said) == 1
    assert "does not take what is published on affect/me/settled (Not authorized)" in said[0]


async def test_a_broker_that_takes_nothing_of_it_is_one_clear_line(tmp_path: Path) -> None:
    broker = guarded(tmp_path, "topic write affect/me/available")
    address = BrokerAddress.parse(f"mqtt://me:right@127.0.0.1:{broker.port}")
    try:
        async with asyncio.timeout(20):
            with pytest.raises(UserError, match=r"_me/config: Not authorized.*allows this user") as refused:
                async with attached([MqttSink(address, publisher_id="me", home_assistant="homeassistant")]):
                    pytest.fail("must not start")
    finally:
        broker.kill()
    assert "\n" not in str(refused.value)
