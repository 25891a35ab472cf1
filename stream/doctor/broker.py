"""The broker: connected to, published at, and what was published received again."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import TYPE_CHECKING, Final

import aiomqtt

from models.errors import UserError
from stream.broker.client import RefusedError
from stream.broker.connection import CALL_TIMEOUT_S, connect_first, disconnect
from stream.broker.credentials import EMBEDDED, find_broker, find_embedded, is_embedded
from stream.broker.embedded import EmbeddedBroker
from stream.doctor.findings import Finding, failure
from stream.mqtt.topics import PREFIX, check_publisher_id, default_publisher_id

if TYPE_CHECKING:
    from stream.broker.connection import BrokerAddress
    from stream.broker.credentials import BrokerFiles

TOPIC: Final = "doctor"
"""Beside the topics of a run, so that a broker's access rules hold for it as they do for those."""


async def round_trip(address: BrokerAddress, publisher_id: str, timeout_s: float = CALL_TIMEOUT_S) -> float:
    """Seconds from publishing a message under `affect/<publisher_id>/` to receiving it.

    Raises UserError where the broker cannot be reached, refuses, or gives nothing back in time.
    """
    topic = f"{PREFIX}/{publisher_id}/{TOPIC}"
    client = await connect_first(address)
    try:
        token = secrets.token_hex(8).encode()
        async with asyncio.timeout(timeout_s):
            await client.subscribe(topic, qos=1)
            began_s = time.monotonic()
            await client.publish(topic, token, qos=1)
            async for message in client.messages:
                if message.payload == token:
                    break
        return time.monotonic() - began_s
    except (aiomqtt.MqttError, RefusedError) as error:
        raise UserError(
            f"connected to the broker at {address.endpoint}, but it refuses {topic} ({error})",
            way_out=f"allow this user to publish and subscribe under {PREFIX}/#",
        ) from None
    except TimeoutError:
        raise UserError(
            f"connected to the broker at {address.endpoint}, but nothing published on {topic} came back "
            f"within {timeout_s:g} s",
            way_out=f"allow this user to publish and subscribe under {PREFIX}/#",
        ) from None
    finally:
        await disconnect(client)


async def examine_broker(
    broker: str, *, files: BrokerFiles | None = None, publisher_id: str | None = None
) -> Finding:
    """The broker of an address, with the `files` that go with it, or an embedded one; never raises for what a user
    can mend.

    One that is just `embedded` serves this machine alone, and a run does without it: it is no worse than a warning.
    """
    subject = "broker embedded" if is_embedded(broker) else "broker"
    try:
        identifier = check_publisher_id(publisher_id or default_publisher_id())
        if is_embedded(broker):
            async with EmbeddedBroker.at(find_embedded(broker, files)) as embedded:
                took_s = await round_trip(embedded.address, identifier)
                where = embedded.address.endpoint
        else:
            address = find_broker(broker, files)
            subject, where = f"broker {address}", address.endpoint
            took_s = await round_trip(address, identifier)
    except UserError as error:
        found = failure(subject, error)
        return found.no_worse_than("warning") if broker == EMBEDDED else found
    says = f"connected, published and received at {where} in {1e3 * took_s:.1f} ms"
    return Finding(subject, "ok", says, measures={"round_trip_ms": 1e3 * took_s})
