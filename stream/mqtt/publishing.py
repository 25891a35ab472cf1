"""Publishing over one connection: each topic in its own way, with properties where the connection has them."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from stream.broker.client import RefusedError
from stream.broker.connection import heeding_cancellation
from stream.broker.mqtt5 import message_properties, speaks_mqtt5
from stream.messages import SCHEMA
from stream.mqtt.topics import PUBLISHED

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Coroutine

    import aiomqtt
    from paho.mqtt.properties import Properties


class Publisher:
    """Publishes under `prefix` over one connection, and counts what it published as `mqtt_published`.

    In MQTT 5 messages say what they are (their content type, the user property `schema`) and how long they are worth
    delivering; in 3.1.1 there is no place for that. `refused` is told where a message was to go that the broker does
    not take, and why; without it RefusedError is raised.
    """

    def __init__(
        self,
        client: aiomqtt.Client,
        prefix: str,
        counters: Counter[str],
        refused: Callable[[str, RefusedError], None] | None = None,
    ) -> None:
        self._client = client
        self._prefix = prefix
        self._counters = counters
        self._refused = refused
        self._with_properties = speaks_mqtt5(client)

    async def publish(self, topic: str, payload: bytes) -> None:
        """Publish on one of our topics. Raises aiomqtt.MqttError where the connection is lost."""
        await self._send(topic, payload, f"{self._prefix}/{topic}", correlation=None)

    def publishes(self, topic: str) -> Callable[[bytes], Coroutine[Any, Any, None]]:
        """What publishes payloads on one of our topics."""

        async def publish(payload: bytes) -> None:
            await self.publish(topic, payload)

        return publish

    async def publish_as(self, topic: str, payload: bytes, where: str, correlation: bytes | None) -> None:
        """Publish at `where` what belongs on `topic`, in that topic's way: the answer to whoever asked for one."""
        await self._send(topic, payload, where, correlation)

    async def retain(self, where: str, payload: bytes) -> None:
        """Publish JSON that is none of our topics', to be kept by the broker."""
        properties = message_properties("application/json") if self._with_properties else None
        await self._publish(where, payload, 1, True, properties)

    async def _send(self, topic: str, payload: bytes, where: str, correlation: bytes | None) -> None:
        form = PUBLISHED[topic]
        properties = None
        if self._with_properties:
            properties = (
                _properties(topic) if correlation is None else _answering_properties(topic, correlation)
            )
        await self._publish(where, payload, form.qos, form.retain, properties)

    async def _publish(
        self, where: str, payload: bytes, qos: int, retain: bool, properties: Properties | None
    ) -> None:
        try:
            await heeding_cancellation(
                self._client.publish(where, payload, qos=qos, retain=retain, properties=properties)
            )
        except RefusedError as error:
            if self._refused is None:
                raise RefusedError(f"{where}: {error}") from None
            self._refused(where, error)
            return
        self._counters["mqtt_published"] += 1


@cache
def _properties(topic: str) -> Properties:
    return _answering_properties(topic, None)


def _answering_properties(topic: str, correlation: bytes | None) -> Properties:
    form = PUBLISHED[topic]
    return message_properties(
        form.content_type,
        expiry_s=form.expiry_s,
        user=[("schema", str(SCHEMA))],
        correlation=correlation,
    )
