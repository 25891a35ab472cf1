"""Where metrics are served."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from typing import Final, Self

from models.errors import UserError
from stream.extras import require_extra

PATH: Final = "/metrics"
EXAMPLE: Final = "give one such as 127.0.0.1:9464, or 9464 for this machine alone"


@dataclass(frozen=True)
class MetricsAddress:
    """A host's name or address, and a port (0: one that is free)."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads `HOST:PORT`, with brackets around an IPv6 address; `PORT` alone is of 127.0.0.1.

        Raises UserError for anything else.
        """
        found = re.fullmatch(
            r"(?:(?P<host>[^:\[\]/\s]+|\[[0-9a-fA-F:.]+\]):)?(?P<port>\d{1,5})", text.strip()
        )
        if found is None or int(found["port"]) > 65535:
            raise UserError(f"'{text}' is no address for metrics: {EXAMPLE}")
        return cls((found["host"] or "127.0.0.1").strip("[]"), int(found["port"]))

    def at(self, port: int) -> str:
        """The address as a URL, with the port that is served at."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{port}{PATH}"

    def refused(self, why: str) -> UserError:
        """What to say where nothing can listen there."""
        return UserError(
            f"cannot serve metrics at {self.host}:{self.port} ({why}): "
            "name a port that is free, of an address that this machine has, with --metrics"
        )


def check_metrics(text: str | None, page_port: int | None = None) -> None:
    """Looks, before anything takes long, whether metrics can be had, beside a page where there is one.

    Raises UserError where they cannot.
    """
    if text is None:
        return
    address = MetricsAddress.parse(text)
    require_extra("page", "prometheus_client", "--metrics")
    if page_port == address.port != 0:
        raise UserError(
            f"the page has port {address.port} too, and metrics beside it at {PATH}: "
            "leave --metrics out, or give it another port"
        )
    try:
        family, _, _, _, at = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
        socket.create_server((str(at[0]), int(at[1])), family=family).close()
    except OSError as error:
        raise address.refused(error.strerror or str(error)) from None
