"""What only MQTT 5 has: properties of messages and sessions, and who speaks it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paho.mqtt.reasoncodes import ReasonCode

MOST_UNACKNOWLEDGED: Final = 256

FIRST_REFUSAL: Final = 128
VERSION_REFUSED: Final = 132
"""The reason code `Unsupported protocol version`."""


def speaks_mqtt5(client: aiomqtt.Client) -> bool:
    """Whether this connection is one of MQTT 5, whose messages may have properties."""
    # aiomqtt does not tell; paho does.
    return int(client._client.protocol) == int(aiomqtt.ProtocolVersion.V5)


def is_refusal(granted: int | ReasonCode) -> bool:
    """Whether a broker's answer to a subscription, in either version, says that there is none."""
    return granted >= FIRST_REFUSAL if isinstance(granted, int) else granted.is_failure


def session_kept(seconds: int) -> Properties:
    """Asks, when connecting, for a session that outlives the connection, and for no more than fits at once."""
    properties = _made(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = seconds
    properties.ReceiveMaximum = MOST_UNACKNOWLEDGED
    return properties


def message_properties(
    content_type: str,
    *,
    expiry_s: int | None = None,
    user: Sequence[tuple[str, str]] = (),
    correlation: bytes | None = None,
) -> Properties:
    """Properties of a published UTF-8 text: what it is, how long it is worth delivering, what it answers."""
    properties = _made(PacketTypes.PUBLISH)
    properties.PayloadFormatIndicator = 1
    properties.ContentType = content_type
    if expiry_s is not None:
        properties.MessageExpiryInterval = expiry_s
    if user:
        properties.UserProperty = list(user)
    if correlation is not None:
        properties.CorrelationData = correlation
    return properties


def wants_answer_at(message: aiomqtt.Message) -> str | None:
    """The response topic of a message that asks for an answer."""
    topic = getattr(message.properties, "ResponseTopic", None)
    return topic if isinstance(topic, str) and topic else None


def correlation_of(message: aiomqtt.Message) -> bytes | None:
    """The correlation data of a message, by which its sender knows the answer."""
    data = getattr(message.properties, "CorrelationData", None)
    return bytes(data) if isinstance(data, bytes | bytearray) else None


def _made(packet: int) -> Properties:
    return Properties(packet)  # type: ignore[no-untyped-call]  # paho types no such calls
