"""The broker that a user means: its address, with user, password and certificates from wherever they are kept.

A password may stand in the address, in a file (`--broker-password-file`) or in the environment, so that it need not
be on a command line, which every user of the machine can read.
"""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from models.errors import UserError
from stream.broker.connection import BrokerAddress
from stream.broker.tls import KEY_PASSWORD_VARIABLE, ClientCertificate

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

USER_VARIABLE: Final = "AFFECT_BROKER_USER"
PASSWORD_VARIABLE: Final = "AFFECT_BROKER_PASSWORD"  # noqa: S105  (the variable's name)

EMBEDDED: Final = "embedded"
LOOPBACK: Final = "127.0.0.1"
_LARGEST_PASSWORD_FILE: Final = 65_536
_EMBEDDED_EXAMPLE: Final = "give embedded, or where it is to listen, such as embedded://0.0.0.0:1883"


@dataclass(frozen=True)
class BrokerFiles:
    """The files that go with a broker's address; all of them may be absent."""

    ca: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None
    password: Path | None = None


@dataclass(frozen=True)
class EmbeddedAddress:
    """Where the embedded broker is to listen, and whom it lets in.

    `port` None: 1883 or, for this machine only, any free one. Without a `user` it lets in everybody.
    """

    host: str = LOOPBACK
    port: int | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    @property
    def is_for_this_machine(self) -> bool:
        """Whether nobody else can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def is_embedded(broker: str) -> bool:
    """Whether a `--broker` means the embedded one."""
    return broker == EMBEDDED or broker.startswith(f"{EMBEDDED}:")


def find_broker(
    url: str, files: BrokerFiles | None = None, environment: Mapping[str, str] = os.environ
) -> BrokerAddress:
    """The broker at `url`, with what `files` and the environment say of it.

    A password in the address counts first, then that of the file, then the environment's. Raises UserError for an
    address, a file or a combination that cannot be.
    """
    files = files or BrokerFiles()
    address = BrokerAddress.parse(
        url, ca_file=files.ca, client_certificate=_client_certificate(files, environment)
    )
    user, password = _credentials(address.username, address.password, files.password, environment)
    return replace(address, username=user, password=password)


def find_embedded(
    broker: str, files: BrokerFiles | None = None, environment: Mapping[str, str] = os.environ
) -> EmbeddedAddress:
    """What `embedded` or `embedded://[user[:password]@]host[:port]` means.

    User and password are found as `find_broker` finds them. Raises UserError for what is no such address.
    """
    password_file = files.password if files else None
    if broker == EMBEDDED:
        return EmbeddedAddress(LOOPBACK, None, *_credentials(None, None, password_file, environment))
    try:
        parts = urlsplit(broker)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UserError(
            f"that is no address for the embedded broker ({error}): {_EMBEDDED_EXAMPLE}"
        ) from None
    if parts.scheme != EMBEDDED or not host or parts.path.strip("/") or parts.query or parts.fragment:
        raise UserError(f"that is no address for the embedded broker: {_EMBEDDED_EXAMPLE}")
    user, password = _credentials(
        unquote(parts.username) if parts.username else None,
        unquote(parts.password) if parts.password else None,
        password_file,
        environment,
    )
    return EmbeddedAddress(host, port, user, password)


def _client_certificate(files: BrokerFiles, environment: Mapping[str, str]) -> ClientCertificate | None:
    if files.client_certificate is None:
        if files.client_key is not None:
            raise UserError("a client's key is for its certificate: name that too, with --client-cert")
        return None
    return ClientCertificate(
        files.client_certificate, files.client_key, environment.get(KEY_PASSWORD_VARIABLE)
    )


def _credentials(
    user: str | None, password: str | None, password_file: Path | None, environment: Mapping[str, str]
) -> tuple[str | None, str | None]:
    """User and password; the arguments are those of the address."""
    if password is not None and password_file is not None:
        raise UserError(
            f"the address has a password, and {password_file} has one: leave it out of the address"
        )
    known_user = environment.get(USER_VARIABLE) or None
    if password is None and password_file is not None:
        password = _read_password(password_file)
    elif password is None and (user is None or known_user in (None, user)):
        password = environment.get(PASSWORD_VARIABLE) or None
    user = user or known_user
    if password is not None and user is None:
        raise UserError(
            f"there is a password for the broker, but no user: name one in the address or in {USER_VARIABLE}"
        )
    return user, password


def _read_password(path: Path) -> str:
    """The password that a file holds, without the line end behind it. Raises UserError."""
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_PASSWORD_FILE + 1)
        text = content.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UserError(
            f"cannot read the broker's password from {path} ({why}): give a file that holds it"
        ) from None
    if not text or "\n" in text or len(content) > _LARGEST_PASSWORD_FILE:
        raise UserError(f"{path} does not hold one line with the broker's password: give a file that does")
    return text
