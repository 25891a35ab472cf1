"""A broker is well when what is published at it comes back, over a real socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from models.errors import UserError
from stream.broker.credentials import BrokerFiles
from stream.broker.embedded import EmbeddedBroker
from stream.doctor.broker import examine_broker, round_trip
from tests.stream.brokers import Mosquitto, free_port

if TYPE_CHECKING:
    from pathlib import Path


async def test_the_embedded_broker_gives_back_what_is_published() -> None:
    found = await examine_broker("embedded")
    assert found.state == "ok", found
    assert "connected, published and received at 127.0.0.1:" in found.says
    assert found.measures["round_trip_ms"] < 5000


async def test_a_broker_by_its_address() -> None:
    async with EmbeddedBroker(0) as broker:
        found = await examine_broker(str(broker.address), publisher_id="desk")
    assert found.state == "ok", found


async def test_a_password_from_a_file(tmp_path: Path) -> None:
    secret = "-".join("abc")
    (tmp_path / "password").write_text(f"{secret}\n")
    files = BrokerFiles(password=tmp_path / "password")
    async with EmbeddedBroker(0, user="anna", password=secret) as broker:
        at = f"mqtt://anna@{broker.address.endpoint}"
        found = await examine_broker(at, files=files)
        refused = await examine_broker(at)
    assert found.state == "ok", found
    assert refused.state == "failed"


async def test_an_embedded_broker_at_an_address() -> None:
    found = await examine_broker(f"embedded://anna:secret@127.0.0.1:{free_port()}")
    assert (found.subject, found.state) == ("broker embedded", "ok"), found
    open_to_all = await examine_broker("embedded://0.0.0.0:0")
    assert open_to_all.state == "failed"


async def test_mosquitto(mosquitto: Mosquitto) -> None:
    assert (await examine_broker(str(mosquitto.address))).state == "ok"


async def test_a_broker_that_forbids_the_topics_is_not_well(tmp_path: Path) -> None:
    (tmp_path / "acl").write_text("topic read none/#\n")
    (tmp_path / "acl").chmod(0o700)
    broker = Mosquitto(tmp_path, f"acl_file {tmp_path / 'acl'}")
    broker.start()
    try:
        with pytest.raises(UserError, match=r"allow this user to publish and subscribe under affect/#"):
            await round_trip(broker.address, "desk", timeout_s=1.0)
    finally:
        broker.kill()


async def test_no_broker_there() -> None:
    found = await examine_broker(f"mqtt://anna:secret@127.0.0.1:{free_port()}")
    assert found.state == "failed"
    assert "--broker embedded" in found.mend
    assert "secret" not in repr(found)


@pytest.mark.parametrize(("broker", "identifier"), [("http://x", None), ("embedded", "a/b")])
async def test_what_is_no_address_or_no_id(broker: str, identifier: str | None) -> None:
    assert (await examine_broker(broker, publisher_id=identifier)).state != "ok"
