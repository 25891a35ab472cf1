"""Where user, password and the embedded broker's address come from, and what is refused in one line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from models.errors import UserError
from stream.broker.credentials import (
    BrokerFiles,
    EmbeddedAddress,
    find_broker,
    find_embedded,
    is_embedded,
)
from stream.broker.tls import ClientCertificate
from stream.commands.run import command as run_command

EVERYWHERE = "0.0.0.0"  # noqa: S104
KNOWN = {"AFFECT_BROKER_USER": "desk", "AFFECT_BROKER_PASSWORD": "from outside"}


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text("from the file\n")
    return path


@pytest.mark.parametrize(
    ("url", "environment", "user", "password"),
    [
        ("mqtt://host", {}, None, None),
        ("mqtt://host", KNOWN, "desk", "from outside"),
        ("mqtt://me:own@host", KNOWN, "me", "own"),
        ("mqtt://desk@host", KNOWN, "desk", "from outside"),
        ("mqtt://me@host", KNOWN, "me", None),
        ("mqtt://me@host", {"AFFECT_BROKER_PASSWORD": "p"}, "me", "p"),
        ("mqtt://host", {"AFFECT_BROKER_USER": "desk"}, "desk", None),
        ("mqtt://host", {"AFFECT_BROKER_USER": "", "AFFECT_BROKER_PASSWORD": ""}, None, None),
    ],
)
def test_the_address_counts_first_and_then_the_environment(
    url: str, environment: dict[str, str], user: str | None, password: str | None
) -> None:
    address = find_broker(url, environment=environment)
    assert (address.username, address.password) == (user, password)


@pytest.mark.parametrize(
    ("url", "environment", "user"),
    [("mqtt://me@host", {}, "me"), ("mqtt://host", KNOWN, "desk"), ("mqtt://me@host", KNOWN, "me")],
)
def test_the_file_counts_before_the_environment(
    password_file: Path, url: str, environment: dict[str, str], user: str
) -> None:
    address = find_broker(url, BrokerFiles(password=password_file), environment)
    assert (address.username, address.password) == (user, "from the file")
    assert "from the" not in f"{address} {address!r}"


def test_what_cannot_be_is_one_clear_line(password_file: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "lines").write_text("one\ntwo\n")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    for url, files, environment, named in (
        ("mqtt://me:own@host", BrokerFiles(password=password_file), {}, "leave it out of the address"),
        ("mqtt://host", BrokerFiles(password=password_file), {}, "AFFECT_BROKER_USER"),
        ("mqtt://host", None, {"AFFECT_BROKER_PASSWORD": "secret"}, "AFFECT_BROKER_USER"),
        ("mqtt://me@host", BrokerFiles(password=tmp_path / "none"), {}, "none"),
        ("mqtt://me@host", BrokerFiles(password=tmp_path), {}, str(tmp_path)),
        ("mqtt://me@host", BrokerFiles(password=tmp_path / "empty"), {}, "one line"),
        ("mqtt://me@host", BrokerFiles(password=tmp_path / "lines"), {}, "one line"),
        ("mqtt://me@host", BrokerFiles(password=tmp_path / "bytes"), {}, "UTF-8"),
        ("mqtts://host", BrokerFiles(client_key=tmp_path / "key"), {}, "--client-cert"),
        ("mqtt://host", BrokerFiles(client_certificate=tmp_path / "cert"), {}, "mqtts://host"),
    ):
        with pytest.raises(UserError) as refused:
            find_broker(url, files, environment)
        assert named in str(refused.value)
        assert "\n" not in str(refused.value)
        assert "secret" not in str(refused.value)


def test_a_client_certificate_comes_with_its_key_and_that_ones_password() -> None:
    files = BrokerFiles(client_certificate=Path("me.pem"), client_key=Path("me.key"))
    address = find_broker("mqtts://host", files, {"AFFECT_BROKER_KEY_PASSWORD": "opens it"})
    assert address.client_certificate == ClientCertificate(Path("me.pem"), Path("me.key"), "opens it")
    assert "opens it" not in repr(address)


@pytest.mark.parametrize(
    ("broker", "environment", "address"),
    [
        ("embedded", {}, EmbeddedAddress()),
        ("embedded", KNOWN, EmbeddedAddress("127.0.0.1", None, "desk", "from outside")),
        ("embedded://127.0.0.1", {}, EmbeddedAddress()),
        ("embedded://0.0.0.0:1884", KNOWN, EmbeddedAddress(EVERYWHERE, 1884, "desk", "from outside")),
        ("embedded://me:p%40ss@[::]:99", KNOWN, EmbeddedAddress("::", 99, "me", "p@ss")),
    ],
)
def test_the_embedded_broker_is_told_where_to_listen_and_whom_to_let_in(
    broker: str, environment: dict[str, str], address: EmbeddedAddress
) -> None:
    assert is_embedded(broker)
    assert find_embedded(broker, environment=environment) == address
    assert address.password is None or address.password not in repr(address)


@pytest.mark.parametrize(
    "broker", ["embedded:", "embedded://", "embedded:1883", "embedded://h:x", "embedded://h/topic"]
)
def test_what_is_no_address_for_it_is_one_clear_line(broker: str) -> None:
    assert is_embedded(broker)
    with pytest.raises(UserError, match=r"embedded://0\.0\.0\.0:1883"):
        find_embedded(broker, environment={})


@pytest.mark.parametrize(
    ("host", "own"),
    [
        *(("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True)),
        *((EVERYWHERE, False), ("::", False), ("192.168.0.2", False), ("desk.local", False)),
    ],
)
def test_it_is_known_who_could_reach_it(host: str, own: bool) -> None:
    assert EmbeddedAddress(host).is_for_this_machine is own


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--broker", "embedded://0.0.0.0:1883"), "only with a password"),
        (("--broker", "embedded://"), "embedded://0.0.0.0:1883"),
        (("--broker", "mqtt://host", "--broker-password-file", "absent"), "absent"),
        (("--broker", "mqtt://host", "--client-cert", "me.pem"), "mqtts://host"),
        (("--broker", "mqtts://host", "--client-cert", "me.pem"), "me.pem"),
        (("--broker", "mqtt://host", "--home-assistant", "--home-assistant-prefix", "a/#"), "a/#"),
    ],
)
def test_a_run_is_told_so_before_anything_is_loaded(
    options: tuple[str, ...], named: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in (*KNOWN, "AFFECT_BROKER_KEY_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "argv", ["stream-run", "--demo", *options])
    with pytest.raises(SystemExit) as ended:
        run_command()
    said = capfd.readouterr().err
    assert ended.value.code == 2
    assert said.count("\n") == 1
    assert named in said
