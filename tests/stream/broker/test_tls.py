"""TLS with certificates of clients: a broker that asks for them, keys with passwords, and files that are wrong."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from models.errors import UserError
from stream.broker.connection import BrokerAddress, connect_first, disconnect
from stream.broker.tls import ClientCertificate, tls_context
from tests.commands import run_in_own_process
from tests.stream.brokers import Mosquitto

if TYPE_CHECKING:
    from pathlib import Path


def openssl(command: str) -> None:
    subprocess.run(["openssl", *command.split()], check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with self-signed certificates `broker` and `client`, their keys, and `locked.key`, as `client.key` but
    behind the password `sesame`.
    """
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("broker", "client"):
        openssl(
            "req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
            f" -keyout {folder}/{name}.key -out {folder}/{name}.pem"
        )
    openssl(f"rsa -aes256 -passout pass:sesame -in {folder}/client.key -out {folder}/locked.key")
    both = (folder / "client.pem").read_text() + (folder / "client.key").read_text()
    (folder / "both.pem").write_text(both)
    return folder


@pytest.fixture
def asking(tmp_path: Path, certificates: Path) -> Mosquitto:
    """A broker that lets in who shows the certificate `client`."""
    return Mosquitto(
        tmp_path,
        f"certfile {certificates}/broker.pem\nkeyfile {certificates}/broker.key\n"
        f"cafile {certificates}/client.pem\nrequire_certificate true",
    )


async def test_a_broker_that_asks_for_it_is_shown_ours(asking: Mosquitto, certificates: Path) -> None:
    asking.start()
    url, ca_file = f"mqtts://localhost:{asking.port}", certificates / "broker.pem"
    try:
        for shown in (
            ClientCertificate(certificates / "client.pem", certificates / "client.key"),
            ClientCertificate(certificates / "client.pem", certificates / "locked.key", "sesame"),
            ClientCertificate(certificates / "both.pem"),
        ):
            address = BrokerAddress.parse(url, ca_file=ca_file, client_certificate=shown)
            await disconnect(await connect_first(address))
        with pytest.raises(UserError, match="--client-cert") as refused:
            await connect_first(BrokerAddress.parse(url, ca_file=ca_file))
        assert "\n" not in str(refused.value)
    finally:
        asking.kill()


def test_files_that_do_not_serve_are_one_clear_line(certificates: Path, tmp_path: Path) -> None:
    (tmp_path / "text.pem").write_text("no certificate")
    client, key = certificates / "client.pem", certificates / "client.key"
    locked = certificates / "locked.key"
    for shown, named in (
        (ClientCertificate(client, certificates / "broker.key"), "belong together"),
        (ClientCertificate(client, locked), "AFFECT_BROKER_KEY_PASSWORD, or give a key that is not"),
        (ClientCertificate(client, locked, "wrong"), "does not open the key"),
        (ClientCertificate(client), "--client-key"),
        (ClientCertificate(tmp_path / "none.pem", key), "none.pem"),
        (ClientCertificate(client, tmp_path / "none.key"), "none.key"),
        (ClientCertificate(tmp_path / "text.pem", key), "text.pem"),
    ):
        with pytest.raises(UserError) as refused:
            tls_context(None, shown)
        assert named in str(refused.value)
        assert "\n" not in str(refused.value)


def test_an_encrypted_key_without_its_password_ends_a_run_before_anything_is_loaded(
    certificates: Path,
) -> None:
    ran = run_in_own_process(
        *("stream-run", "--demo", "--broker", "mqtts://localhost:1"),
        *("--client-cert", certificates / "client.pem", "--client-key", certificates / "locked.key"),
    )
    assert ran.returncode == 2
    assert ran.stderr.count("\n") == 1
    assert "locked.key is encrypted: put its password into AFFECT_BROKER_KEY_PASSWORD" in ran.stderr
