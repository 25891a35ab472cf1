"""Brokers: addresses, the embedded one, passwords and TLS."""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import aiomqtt
import pytest

from models.errors import UserError
from stream.broker.connection import BrokerAddress, connect, connect_first, disconnect, until_lost
from stream.broker.credentials import EmbeddedAddress
from stream.broker.embedded import EmbeddedBroker
from tests.stream.brokers import Mosquitto, free_port

if TYPE_CHECKING:
    from pathlib import Path


EVERYWHERE = "0.0.0.0"  # noqa: S104


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("mqtt://127.0.0.1", BrokerAddress("127.0.0.1", 1883)),
        ("mqtt://broker.example:1884/", BrokerAddress("broker.example", 1884)),
        ("mqtts://broker.example", BrokerAddress("broker.example", 8883, tls=True)),
        ("mqtt://me:p%40ss%2F@[::1]:99", BrokerAddress("::1", 99, "me", "p@ss/")),
        ("mqtt://me@host", BrokerAddress("host", 1883, "me", None)),
        (" MQTT://Host ", BrokerAddress("host", 1883)),
    ],
)
def test_addresses_are_read(url: str, address: BrokerAddress) -> None:
    assert BrokerAddress.parse(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1",
        "localhost:1883",
        "http://host",
        "mqtt://",
        "mqtt://:1883",
        "mqtt://host:port",
        "mqtt://host:99999",
        "mqtt://host:0",
        "mqtt://host/topic",
        "mqtt://host?x=1",
        "mqtt://[::1",
        "mqtt://:secret@host",
    ],
)
def test_what_is_no_address_is_one_clear_line_with_an_example(url: str) -> None:
    with pytest.raises(UserError, match="mqtt://127") as refused:
        BrokerAddress.parse(url)
    assert "\n" not in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_password_is_never_shown() -> None:
    address = BrokerAddress.parse("mqtts://me:secret@host")
    assert "secret" not in f"{address} {address!r} {address.endpoint}"
    assert str(address) == "mqtts://me@host:8883"
    with pytest.raises(UserError) as refused:
        BrokerAddress.parse("mqtt://me:secret@host/path")
    assert "secret" not in str(refused.value)


def test_a_certificate_authority_needs_tls_and_a_readable_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="mqtts://host"):
        BrokerAddress.parse("mqtt://host", ca_file=tmp_path / "ca.pem")
    for content in (None, "not a certificate"):
        if content:
            (tmp_path / "ca.pem").write_text(content)
        with pytest.raises(UserError, match=r"cannot read certificates from .*ca\.pem"):
            BrokerAddress.parse("mqtts://host", ca_file=tmp_path / "ca.pem").tls_context()


async def test_the_embedded_broker_passes_messages_on_and_keeps_retained_ones() -> None:
    async with EmbeddedBroker(0) as broker:
        assert broker.address.host == "127.0.0.1"
        sender = await connect(broker.address)
        await sender.publish("affect/me/available", "online", qos=1, retain=True)
        listener = await connect(broker.address)
        await listener.subscribe("affect/#", qos=1)
        async with asyncio.timeout(5):
            message = await anext(listener.messages)
        assert message.payload == b"online"
        assert message.retain
        await disconnect(listener)
        await disconnect(sender)


async def test_the_embedded_broker_takes_the_usual_port_or_any_that_is_free() -> None:
    async with EmbeddedBroker() as first, EmbeddedBroker() as second:
        assert first.address.port != second.address.port
        for broker in (first, second):
            await disconnect(await connect(broker.address))


async def test_a_port_that_is_taken_is_one_clear_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"127\.0\.0\.1:{port} \(Address already in use\): give another"):
            async with EmbeddedBroker(port):
                pytest.fail("must not start")


async def test_the_embedded_broker_is_quiet_and_ends_with_clients_connected(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    async with EmbeddedBroker(0) as broker:
        port = broker.address.port
        client = await connect(broker.address)
    async with asyncio.timeout(5):
        assert isinstance(await until_lost(_listen(client)), aiomqtt.MqttError)
    assert caplog.records == []
    async with EmbeddedBroker(port):
        pass


async def _listen(client: aiomqtt.Client) -> None:
    async for _ in client.messages:
        pass


async def test_beyond_this_machine_the_embedded_broker_has_a_password_or_does_not_listen() -> None:
    for host in (EVERYWHERE, "::", "desk.local"):
        for user, password in ((None, None), ("me", None), ("me", "")):
            with pytest.raises(UserError, match=r"only with a password.*AFFECT_BROKER_PASSWORD") as refused:
                EmbeddedBroker(0, host=host, user=user, password=password)
            assert "\n" not in str(refused.value)


async def test_the_embedded_broker_lets_in_who_knows_the_password_from_anywhere() -> None:
    async with EmbeddedBroker.at(EmbeddedAddress(EVERYWHERE, 0, "me", "right")) as broker:
        assert broker.address.host == "127.0.0.1"
        assert "right" not in f"{broker.address} {broker.address!r}"
        own = socket.gethostbyname(socket.gethostname())
        for host in {"127.0.0.1", own}:
            await disconnect(await connect_first(replace(broker.address, host=host)))
        for user, password in ((None, None), ("me", None), ("me", "wrong"), ("you", "right"), ("me", "")):
            with pytest.raises(UserError, match="right user and password"):
                await connect_first(replace(broker.address, username=user, password=password))


async def test_a_broker_that_cannot_be_reached_is_one_clear_line() -> None:
    port = free_port()
    for url, reason in (
        (f"mqtt://127.0.0.1:{port}", "refused"),
        ("mqtt://nowhere.invalid", "nowhere.invalid"),
    ):
        with pytest.raises(UserError, match=f"{reason}.*--broker embedded") as refused:
            await connect_first(BrokerAddress.parse(url))
        assert "\n" not in str(refused.value)


async def test_what_is_no_broker_at_all_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream.broker.connection.CALL_TIMEOUT_S", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = BrokerAddress("127.0.0.1", silent.getsockname()[1])
        with pytest.raises(UserError, match="cannot connect to the broker"):
            await connect_first(address)


@pytest.fixture
def passwords(tmp_path: Path) -> Path:
    """A mosquitto password file that knows `me`, password `right`."""
    if shutil.which("mosquitto_passwd") is None:
        pytest.skip("mosquitto_passwd is not installed")
    subprocess.run(["mosquitto_passwd", "-c", "-b", tmp_path / "passwords", "me", "right"], check=True)
    return tmp_path / "passwords"


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """A folder with two self-signed certificates for this machine, `right` and `other`, and their keys."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    for name in ("right", "other"):
        command = (
            "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost"
            " -addext subjectAltName=DNS:localhost,IP:127.0.0.1"
            f" -keyout {tmp_path}/{name}.key -out {tmp_path}/{name}.pem"
        )
        subprocess.run(command.split(), check=True, capture_output=True)
    return tmp_path


async def test_a_wrong_password_says_so(tmp_path: Path, passwords: Path) -> None:
    broker = Mosquitto(tmp_path, f"password_file {passwords}", allow_anonymous=False)
    broker.start()
    try:
        url = f"127.0.0.1:{broker.port}"
        await disconnect(await connect_first(BrokerAddress.parse(f"mqtt://me:right@{url}")))
        with pytest.raises(UserError, match="right user and password") as refused:
            await connect_first(BrokerAddress.parse(f"mqtt://me:wrong@{url}"))
        assert "wrong" not in str(refused.value)
    finally:
        broker.kill()


async def test_tls_is_verified_against_the_given_authority(tmp_path: Path, certificates: Path) -> None:
    broker = Mosquitto(tmp_path, f"certfile {certificates}/right.pem\nkeyfile {certificates}/right.key")
    broker.start()
    try:
        url = f"mqtts://127.0.0.1:{broker.port}"
        await disconnect(await connect_first(BrokerAddress.parse(url, ca_file=certificates / "right.pem")))
        for ca_file in (certificates / "other.pem", None):
            with pytest.raises(UserError, match=r"certificate verify failed.*--ca-file"):
                await connect_first(BrokerAddress.parse(url, ca_file=ca_file))
    finally:
        broker.kill()


async def test_the_embedded_broker_ends_whenever_a_packet_comes() -> None:
    """One that comes in the very moment in which its connection is closed must not have it wait for ever."""
    for turns in range(12):
        async with asyncio.timeout(10):
            async with EmbeddedBroker(0) as broker:
                reader, writer = await asyncio.open_connection("127.0.0.1", broker.address.port)
                writer.write(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01c")
                assert await reader.readexactly(4) == b"\x20\x02\x00\x00", "not connected"
                await asyncio.sleep(0.05)
                writer.write(b"\xc0\x00")  # a ping, some turns of the event loop before the end
                for _ in range(turns):
                    await asyncio.sleep(0)
            writer.close()


async def test_the_embedded_broker_ends_and_its_port_is_free_though_amqtt_does_not_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def never(broker: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("stream.broker.embedded.GIVE_UP_AFTER_S", 0.1)
    async with asyncio.timeout(10):
        async with EmbeddedBroker(0) as broker:
            monkeypatch.setattr("amqtt.broker.Broker.shutdown", never)
            port = broker.address.port
    monkeypatch.undo()
    async with asyncio.timeout(10), EmbeddedBroker(port):
        pass


async def test_the_embedded_broker_ends_though_a_subscriber_reads_nothing() -> None:
    async with asyncio.timeout(20):
        async with EmbeddedBroker(0) as broker:
            deaf = socket.create_connection(("127.0.0.1", broker.address.port), timeout=5)
            deaf.sendall(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01c\x82\x06\x00\x01\x00\x01#\x00")
            await asyncio.to_thread(deaf.recv, 9)
            sender = await connect(broker.address)
            for _ in range(100):
                await sender.publish("a", b"x" * 100_000)
            await asyncio.sleep(0.1)
            await disconnect(sender)
        deaf.close()
