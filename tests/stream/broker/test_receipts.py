"""Acknowledgements: only for what was dealt with, and nothing is written while there is something to read."""

from __future__ import annotations

import asyncio
import socket

from stream.broker.connection import abandon, connect, disconnect
from stream.broker.receipts import MOST_PUT_OFF, ReadsFirst, acknowledge
from tests.stream.brokers import Mosquitto, publish


def test_a_write_is_put_off_while_there_is_something_to_read_also_from_the_dead_but_not_for_ever() -> None:
    ours, theirs = socket.socketpair()
    first = ReadsFirst()
    assert not first.puts_off(ours)
    theirs.send(b"more")
    assert first.puts_off(ours)
    theirs.close()
    assert first.puts_off(ours)
    assert [first.puts_off(ours) for _ in range(MOST_PUT_OFF)].count(False) == 1
    ours.recv(4)
    assert first.puts_off(ours), "that it is closed is to be read too"
    ours.close()
    assert not first.puts_off(ours)


async def test_what_was_not_dealt_with_comes_again(mosquitto: Mosquitto) -> None:
    async def heard(dealt_with: int) -> list[bytes]:
        client = await connect(mosquitto.address, identifier="keeper", keep_s=60)
        await client.subscribe("affect/me/settled", qos=1)
        if not published:
            for number in range(3):
                await asyncio.to_thread(publish, mosquitto.port, "affect/me/settled", f"{number}")
            published.append(True)
        got: list[bytes] = []
        try:
            async with asyncio.timeout(1.0):
                async for each in client.messages:
                    got.append(bytes(each.payload))
                    if len(got) <= dealt_with:
                        acknowledge(client, each)
        except TimeoutError:
            pass
        await (abandon(client) if dealt_with < 3 else disconnect(client))
        return got

    published: list[bool] = []
    assert await heard(0) == [b"0", b"1", b"2"]
    assert await heard(1) == [b"0", b"1", b"2"]
    assert await heard(3) == [b"1", b"2"]
    assert await heard(3) == []
