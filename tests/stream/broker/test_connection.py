"""Connecting to brokers that die, freeze or close in the middle of it; and leaving them."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiomqtt
import pytest

from models.errors import UserError
from stream.broker.connection import (
    BrokerAddress,
    connect,
    connect_first,
    disconnect,
    next_address,
    until_lost,
)
from stream.broker.mqtt5 import speaks_mqtt5

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.stream.brokers import Mosquitto

V5, V311 = 5, 4
ACCEPTED = {V5: b"\x20\x03\x00\x00\x00", V311: b"\x20\x02\x00\x00"}
REFUSED_VERSION = b"\x20\x02\x00\x01"
"""What a broker that has MQTT 3.1.1 only says to MQTT 5."""


class ScriptedBroker:
    """Answers to each CONNECT with what its script says of the version that is asked for, if anything;
    then it closes the connection or stays silent.
    """

    def __init__(self, answers: dict[int, bytes], *, closes: set[int]) -> None:
        self.asked: list[int] = []
        self._answers = answers
        self._closes = closes
        self.address = BrokerAddress("127.0.0.1", 0)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = (await reader.readexactly(9))[8]
        self.asked.append(asked)
        writer.write(self._answers.get(asked, b""))
        if asked not in self._closes:
            await reader.read()
        writer.close()


@asynccontextmanager
async def scripted(
    answers: dict[int, bytes], *, closes: set[int] | None = None
) -> AsyncIterator[ScriptedBroker]:
    broker = ScriptedBroker(answers, closes=closes or set())
    server = await asyncio.start_server(broker.serve, "127.0.0.1", 0)
    broker.address = BrokerAddress("127.0.0.1", server.sockets[0].getsockname()[1])
    try:
        async with asyncio.timeout(20):
            yield broker
    finally:
        server.close()


async def listen(client: aiomqtt.Client) -> None:
    async for _ in client.messages:
        pass


async def test_a_broker_that_refuses_mqtt_5_is_not_asked_for_it_again() -> None:
    async with scripted({V5: REFUSED_VERSION, V311: ACCEPTED[V311]}) as broker:
        client = await connect(broker.address)
        assert broker.asked == [V5, V311]
        assert not speaks_mqtt5(client)
        assert not next_address(broker.address, client).mqtt5
        await disconnect(client)


async def test_a_broker_that_was_silent_and_answers_in_3_1_1_is_not_asked_for_mqtt_5_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stream.broker.connection.VERSION_TIMEOUT_S", 0.3)
    async with scripted({V311: ACCEPTED[V311]}) as broker:
        client = await connect(broker.address)
        assert broker.asked == [V5, V311]
        assert not next_address(broker.address, client).mqtt5
        await disconnect(client)


async def test_a_broker_that_closes_or_is_slow_is_asked_for_mqtt_5_the_next_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may have been about to die, or frozen: for the rest of a run messages would have no expiry."""
    monkeypatch.setattr("stream.broker.connection.VERSION_TIMEOUT_S", 0.3)
    monkeypatch.setattr("stream.broker.connection.PROMPT_S", 0.0)
    for closes in ({V5}, set[int]()):
        async with scripted({V311: ACCEPTED[V311]}, closes=closes) as broker:
            client = await connect(broker.address)
            assert broker.asked == [V5, V311]
            assert next_address(broker.address, client).mqtt5
            await disconnect(client)


async def test_what_closes_without_an_answer_is_told_of_at_once() -> None:
    async with scripted({}, closes={V5, V311}) as broker:
        began_s = time.monotonic()
        with pytest.raises(UserError, match="closed the connection without an answer") as refused:
            await connect_first(broker.address)
        assert time.monotonic() - began_s < 1.5, "two answers were waited for: 7 s"
        assert "\n" not in str(refused.value)


async def test_a_broker_that_dies_as_it_accepts_leaves_nobody_waiting(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with scripted(dict(ACCEPTED), closes={V5, V311}) as broker:
        for _ in range(20):
            try:
                client = await connect(broker.address)
            except aiomqtt.MqttError:
                continue
            async with asyncio.timeout(5):
                assert isinstance(await until_lost(listen(client)), aiomqtt.MqttError)
    assert caplog.records == []


async def test_a_host_that_answers_to_nothing_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[str] = []

    def unreachable(client: aiomqtt.Client) -> None:
        tries.append(client._hostname)
        raise TimeoutError("timed out")

    monkeypatch.setattr("aiomqtt.Client._client_connect", unreachable)
    with pytest.raises(aiomqtt.MqttError, match="timed out"):
        await connect(BrokerAddress("192.0.2.1", 1883))
    assert tries == ["192.0.2.1"]


async def test_leaving_a_broker_that_takes_nothing_is_no_cancellation(mosquitto: Mosquitto) -> None:
    client = await connect(mosquitto.address)
    mosquitto.freeze()
    client.timeout = 0.2
    sending = [asyncio.ensure_future(client.publish("a", b"x" * 1_000_000, qos=1)) for _ in range(20)]
    await asyncio.sleep(0.1)
    async with asyncio.timeout(10):
        await disconnect(client)
    await asyncio.gather(*sending, return_exceptions=True)
    mosquitto.thaw()
