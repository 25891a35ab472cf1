"""Acknowledgements: only for what was dealt with, and never while there is something to read."""

from __future__ import annotations

import asyncio
import socket
from types import SimpleNamespace
from typing import Any, cast

import aiomqtt

from stream.mqtt.connection import abandon, connect, disconnect
from stream.mqtt.receipts import Receipts
from tests.stream.brokers import Mosquitto, publish


def message(mid: int, qos: int = 1) -> aiomqtt.Message:
    return aiomqtt.Message("affect/me/settled", b"", qos, False, mid, None)


def test_nothing_is_acknowledged_while_there_is_something_to_read() -> None:
    ours, theirs = socket.socketpair()
    sent: list[tuple[int, int]] = []
    paho = SimpleNamespace(socket=lambda: ours, ack=lambda mid, qos: sent.append((mid, qos)))
    receipts = Receipts(cast("aiomqtt.Client", SimpleNamespace(_client=paho)))
    receipts.owe(message(1))
    receipts.owe(message(2, qos=0))
    theirs.send(b"more")
    receipts.send()
    assert sent == []
    ours.recv(4)
    receipts.send()
    receipts.send()
    assert sent == [(1, 1)]
    receipts.owe(message(3))
    ours.close()
    receipts.send()
    theirs.close()
    assert sent == [(1, 1), (3, 1)]


async def test_what_was_not_dealt_with_comes_again(mosquitto: Mosquitto) -> None:
    async def heard(dealt_with: int) -> list[bytes]:
        client: Any = await connect(mosquitto.address, identifier="keeper", keep_s=60)
        await client.subscribe("affect/me/settled", qos=1)
        if not published:
            for number in range(3):
                await asyncio.to_thread(publish, mosquitto.port, "affect/me/settled", f"{number}")
            published.append(True)
        receipts, got = Receipts(client), []
        try:
            async with asyncio.timeout(1.0):
                async for each in client.messages:
                    got.append(bytes(each.payload))
                    if len(got) <= dealt_with:
                        receipts.owe(each)
                        receipts.send()
        except TimeoutError:
            pass
        await (abandon(client) if dealt_with < 3 else disconnect(client))
        return got

    published: list[bool] = []
    assert await heard(0) == [b"0", b"1", b"2"]
    assert await heard(1) == [b"0", b"1", b"2"]
    assert await heard(3) == [b"1", b"2"]
    assert await heard(3) == []
