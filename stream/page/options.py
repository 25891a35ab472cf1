"""Where the page is served, to whom, and with what; told from what the user asked for."""

from __future__ import annotations

import ipaddress
import re
import secrets
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from models.errors import UserError
from stream.extras import require_extra

if TYPE_CHECKING:
    from stream.options import OutputOptions

DEFAULT_ADDRESS: Final = "127.0.0.1:8080"
LEAST_TOKEN_CHARACTERS: Final = 12
MOST_TOKEN_CHARACTERS: Final = 200
GENERATED_TOKEN_BYTES: Final = 16

_EXAMPLE: Final = f"give one such as {DEFAULT_ADDRESS}, 0.0.0.0:8080 or [::1]:8080"


@dataclass(frozen=True)
class PageOptions:
    """Where the page is served and what a viewer needs.

    `port` 0 is any free one. `token` is what a viewer has to show, None where nobody has to; `generated` says that
    it was made up here and that nobody knows it yet. `preview` shows the face crop too.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    token: str | None = field(default=None, repr=False)
    generated: bool = False
    preview: bool = False

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the page."""
        return is_loopback(self.host)

    def url(self, port: int | None = None) -> str:
        """The page's address, at the port that it has got."""
        host = _own_address() if self.host in ("0.0.0.0", "::") else self.host  # noqa: S104
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{self.port if port is None else port}/"


def page_options(options: OutputOptions) -> PageOptions | None:
    """Where and how the page of a run is served: `find_page_options`."""
    return find_page_options(options.page, options.page_address, options.page_token, preview=options.preview)


def find_page_options(
    wanted: bool, address: str | None, token: str | None, *, preview: bool = False
) -> PageOptions | None:
    """Where and how the page is served; None where it is not `wanted`.

    Beyond this machine a token is made up unless one was given. Raises UserError for an address or a token that
    cannot be used, for a preview without the page, and where its extra is not installed.
    """
    if not wanted:
        if preview:
            raise UserError("--preview shows the face on the page: add --page")
        return None
    require_page()
    host, port = parse_address(address or DEFAULT_ADDRESS)
    if token is not None:
        check_token(token)
    generated = token is None and not is_loopback(host)
    if generated:
        token = secrets.token_urlsafe(GENERATED_TOKEN_BYTES)
    return PageOptions(host, port, token, generated, preview)


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT`, an IPv6 address in brackets. Raises UserError for anything else."""
    match = re.fullmatch(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]+)):(?P<port>\d{1,5})", text)
    if match is None or int(match["port"]) > 65535:
        raise UserError(f"'{text}' is not an address for the page: {_EXAMPLE}")
    if match["six"]:
        try:
            ipaddress.IPv6Address(match["six"])
        except ValueError:
            raise UserError(f"'{text}' is not an address for the page: {_EXAMPLE}") from None
    return match["six"] or match["host"], int(match["port"])


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _own_address() -> str:
    """This machine's address as others are likely to reach it, its name where it has none; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address that nobody has (RFC 5737)
        except OSError:
            return socket.gethostname()
        return str(probe.getsockname()[0])


def check_token(token: str) -> str:
    """The token. Raises UserError for one that is easily guessed or that no header can carry; never says it."""
    if not LEAST_TOKEN_CHARACTERS <= len(token) <= MOST_TOKEN_CHARACTERS:
        raise UserError(
            f"a token for the page has {LEAST_TOKEN_CHARACTERS} to {MOST_TOKEN_CHARACTERS} characters: give a "
            "longer one, or none to have one made up"
        )
    if re.fullmatch(r"[A-Za-z0-9._~-]+", token) is None:
        raise UserError("a token for the page has only letters, digits and . _ ~ -: give such a one")
    return token


def require_page() -> None:
    """Raises UserError where what serves the page is not installed."""
    for package in ("starlette", "uvicorn", "prometheus_client"):
        require_extra("page", package, "--page")
