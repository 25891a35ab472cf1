"""The outbox: first in, first out, bounded, there again after a crash, and never in the way."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import UserError
from stream.broker.connection import BrokerAddress
from stream.mqtt.outbox import Outbox, default_outbox
from stream.mqtt.settled import QUEUE_FRAMES, SettledDelivery
from tests.stream.brokers import until

if TYPE_CHECKING:
    from collections.abc import Sequence


def contents(outbox: Outbox) -> list[bytes]:
    return [payload for _, payload in outbox.first(10_000)]


@settings(deadline=None, max_examples=40)
@given(
    capacity=st.integers(1, 20),
    steps=st.lists(
        st.lists(st.binary(max_size=9), max_size=30) | st.integers(1, 10) | st.none(), max_size=15
    ),
)
def test_it_is_a_bounded_queue_whatever_happens_to_it(
    capacity: int, steps: list[list[bytes] | int | None]
) -> None:
    with TemporaryDirectory() as folder:
        outbox = Outbox(Path(folder) / "a" / "me.sqlite", capacity)
        outbox.open()
        model: list[bytes] = []
        for step in steps:
            if isinstance(step, list):
                model += step
                assert outbox.append(step) == max(0, len(model) - capacity)
                model = model[-capacity:]
            elif isinstance(step, int):
                if rows := outbox.first(step):
                    outbox.remove(rows[-1][0])
                model = model[step:]
            else:
                outbox.close()
                outbox = Outbox(Path(folder) / "a" / "me.sqlite", capacity)
                outbox.open()
            assert contents(outbox) == model
            assert len(outbox) == len(model)
        outbox.close()
        assert list((Path(folder) / "a").iterdir()) == [] or model


def test_what_a_killed_process_kept_is_there_again(tmp_path: Path) -> None:
    path = tmp_path / "me.sqlite"
    program = (
        "import os, sys; from pathlib import Path; from stream.mqtt.outbox import Outbox\n"
        "outbox = Outbox(Path(sys.argv[1]), 10); outbox.open(); outbox.append([b'a', b'b']); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", program, str(path)], check=False).returncode == 9
    outbox = Outbox(path, 10)
    outbox.open()
    assert contents(outbox) == [b"a", b"b"]
    outbox.close()


def test_a_damaged_file_is_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "me.sqlite"
    path.write_bytes(b"this is no database at all" * 100)
    outbox = Outbox(path, 10)
    outbox.open()
    outbox.append([b"a"])
    assert contents(outbox) == [b"a"]
    outbox.close()
    assert (tmp_path / "me.damaged").read_bytes().startswith(b"this is no database")


def test_without_a_place_to_write_it_is_in_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for path in (tmp_path / "file" / "me.sqlite", tmp_path):
        outbox = Outbox(path, 10)
        outbox.open()
        outbox.append([b"a", b"b"])
        assert contents(outbox) == [b"a", b"b"]
        outbox.close()
    assert (tmp_path / "file").read_text() == "in the way"


def test_one_process_at_a_time(tmp_path: Path) -> None:
    first = Outbox(tmp_path / "me.sqlite", 10)
    first.open()
    with pytest.raises(UserError, match=r"another program holds the outbox .*--id"):
        Outbox(tmp_path / "me.sqlite", 10).open()
    first.close()


def test_each_publisher_and_broker_has_its_own_place() -> None:
    paths = {
        default_outbox(name, BrokerAddress(host, port))
        for name in ("me", "you", "a b", "a_b", "ä_b")
        for host in ("a", "fe80::1")
        for port in (1, 2)
    }
    assert len(paths) == 20
    own = {default_outbox("me", BrokerAddress(host, 1)) for host in ("localhost", "127.0.0.1", "::1")}
    assert len(own) == 1, "one broker, and two processes of one id must not publish there"
    assert all(path.parent == next(iter(paths)).parent for path in paths)


class Wire:
    """A broker that acknowledges, or breaks after so many messages."""

    def __init__(self, breaks_after: int | None = None) -> None:
        self.got: list[bytes] = []
        self.breaks_after = breaks_after

    async def __call__(self, payload: bytes) -> None:
        await asyncio.sleep(0)
        if self.breaks_after is not None and len(self.got) >= self.breaks_after:
            raise ConnectionError("cut")
        self.got.append(payload)
        await asyncio.sleep(0)


@settings(deadline=None, max_examples=25)
@given(
    payload_count=st.integers(0, 300),
    cuts=st.lists(st.integers(0, 80), max_size=5),
    away=st.booleans(),
)
def test_whatever_breaks_everything_arrives_in_order(payload_count: int, cuts: list[int], away: bool) -> None:
    async def deliver() -> None:
        with TemporaryDirectory() as folder:
            drops: Counter[str] = Counter()
            delivery = SettledDelivery(Outbox(Path(folder) / "me.sqlite", 1000), drops)
            await delivery.open()
            payloads = [b"%d" % number for number in range(payload_count)]
            arrived: list[bytes] = []
            for number, payload in enumerate(payloads):
                delivery.offer(payload)
                if cuts and number % 60 == 59:
                    wire = Wire(cuts.pop())
                    with pytest.raises(ConnectionError):
                        await delivery.deliver(wire)
                    await delivery.interrupt()
                    arrived += wire.got
                    if away:
                        keeping = asyncio.create_task(delivery.keep())
                        await until(lambda: len(delivery) == delivery.in_outbox)
                        keeping.cancel()
                        await asyncio.gather(keeping, return_exceptions=True)
            last = Wire()
            await delivery.deliver_waiting(last)
            arrived += last.got
            await delivery.close()
            assert arrived == payloads
            assert not drops.total()

    # A wire that never breaks cannot end `deliver`: cut where there is something left to cut.
    cuts[:] = [cut for cut in cuts if cut < 50]
    asyncio.run(asyncio.wait_for(deliver(), 30))


async def test_nothing_overtakes_what_is_on_its_way_to_the_disk_when_the_broker_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = Outbox(tmp_path / "me.sqlite", 1000)
    delivery = SettledDelivery(outbox, Counter())
    await delivery.open()
    append = outbox.append

    def slow(payloads: Sequence[bytes]) -> int:
        time.sleep(0.1)
        return append(payloads)

    monkeypatch.setattr(outbox, "append", slow)
    keeping = asyncio.create_task(delivery.keep())
    delivery.offer(b"first")
    await asyncio.sleep(0.02)
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    delivery.offer(b"second")
    wire = Wire()
    async with asyncio.timeout(10):
        await delivery.deliver_waiting(wire)
        await delivery.close()
    assert wire.got == [b"first", b"second"]


async def test_the_queue_is_bounded_and_counts_the_oldest(tmp_path: Path) -> None:
    drops: Counter[str] = Counter()
    delivery = SettledDelivery(Outbox(tmp_path / "me.sqlite", 10_000), drops)
    await delivery.open()
    for number in range(QUEUE_FRAMES + 10):
        delivery.offer(b"%d" % number)
    assert drops == {"mqtt_settled_queue": 10}
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(delivery.ready(), 0.05)
    wire = Wire()
    await delivery.deliver_waiting(wire)
    await asyncio.wait_for(delivery.ready(), 0.05)
    assert wire.got == [b"%d" % number for number in range(10, QUEUE_FRAMES + 10)]
    await delivery.close()


async def test_a_disk_that_fails_is_counted_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drops: Counter[str] = Counter()
    outbox = Outbox(tmp_path / "me.sqlite", 10_000)
    delivery = SettledDelivery(outbox, drops)
    await delivery.open()

    def full(payloads: object) -> int:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(outbox, "append", full)
    keeping = asyncio.create_task(delivery.keep())
    for number in range(5):
        delivery.offer(b"%d" % number)
    await until(lambda: drops["mqtt_outbox_failed"] == 5)
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    delivery.offer(b"5")
    wire = Wire()
    await delivery.deliver_waiting(wire)
    assert wire.got == [b"5"]
    await delivery.close()
    assert os.listdir(tmp_path) == []
