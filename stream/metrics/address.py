"""Where metrics are served."""

from __future__ import annotations

import re
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


def check_metrics(text: str | None) -> None:
    """Looks, before anything takes long, whether metrics can be had. Raises UserError where they cannot."""
    if text is not None:
        MetricsAddress.parse(text)
        require_extra("page", "prometheus_client", "--metrics")
