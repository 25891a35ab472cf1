"""The topics `affect/<id>/...`: who may publish under them, how each is published, and the payloads that go there."""

from __future__ import annotations

import json
import re
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from models.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stream.messages import Status

PREFIX: Final = "affect"

MOVING: Final = frozenset({"frames", "settled", "frame_rate", "latency_ms", "drops", "counters"})
"""What of a status moves with every frame."""


@dataclass(frozen=True)
class Topic:
    """How a topic is published; `expiry_s` is how long a message of it is worth delivering (MQTT 5)."""

    qos: int
    retain: bool = False
    expiry_s: int | None = None
    content_type: str = "application/json"


PUBLISHED: Final = {
    "available": Topic(1, retain=True, content_type="text/plain"),
    "estimate": Topic(0, expiry_s=5),
    "settled": Topic(1),
    "state": Topic(1, retain=True),
    "status": Topic(1, retain=True),
    "transcript": Topic(1),
    "marker": Topic(1),
    "ack": Topic(1, expiry_s=60),
}


def default_publisher_id() -> str:
    """This machine's host name as one topic level, or `me` where it has none that serves."""
    return re.sub(r"[^a-z0-9_-]+", "-", socket.gethostname().split(".")[0].lower()).strip("-") or "me"


def check_publisher_id(publisher_id: str) -> str:
    """The id itself, where it can be one level of a topic. Raises UserError where it cannot."""
    if not publisher_id or len(publisher_id.encode()) > 128 or not publisher_id.isprintable():
        raise UserError(f"the id {publisher_id!r} cannot be part of a topic: give a short printable name")
    if set(publisher_id) & set("/+#") or publisher_id.startswith("$"):
        raise UserError(f"the id {publisher_id!r} cannot be part of a topic: leave out / + # and a leading $")
    return publisher_id


def encode(message: Mapping[str, Any]) -> bytes:
    """Compact JSON in UTF-8. Raises ValueError for a number that JSON does not have (NaN, infinity)."""
    return json.dumps(message, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def steady_part(status: Status) -> dict[str, Any]:
    """A status without its moving numbers: when this changes, the change is published at once."""
    return {key: value for key, value in status.to_json().items() if key not in MOVING}
