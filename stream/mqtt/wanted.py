"""The broker that a run's options mean: refused before anything is loaded where it cannot be, and tried first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.errors import UserError
from stream.broker.connection import BrokerAddress, connect_first, disconnect
from stream.broker.credentials import BrokerFiles, find_broker, find_embedded, is_embedded
from stream.broker.embedded import EmbeddedBroker
from stream.mqtt.home_assistant import HomeAssistant

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AsyncExitStack

    from stream.options import OutputOptions


def wanted_broker_of(options: OutputOptions, publisher_id: str) -> BrokerAddress | EmbeddedBroker | None:
    """The broker that the options mean. Raises UserError before anything is loaded for what cannot be."""
    if options.home_assistant:
        HomeAssistant(publisher_id, options.home_assistant_prefix)
        if options.broker == "none":
            raise UserError("Home Assistant is told by a broker: name the one that it uses with --broker")
    if options.broker == "none":
        return None
    files = BrokerFiles(
        options.ca_file, options.client_cert, options.client_key, options.broker_password_file
    )
    if is_embedded(options.broker):
        return EmbeddedBroker.at(find_embedded(options.broker, files))
    address = find_broker(options.broker, files)
    address.tls_context()  # whose files are read again when it is connected to
    return address


async def reach(
    broker: BrokerAddress | EmbeddedBroker | None, stack: AsyncExitStack, tell_progress: Callable[[str], None]
) -> BrokerAddress | None:
    """Where the broker is: an embedded one is started, and ends with the `stack`; another one is tried.

    Raises UserError where none is there.
    """
    if isinstance(broker, EmbeddedBroker):
        return (await stack.enter_async_context(broker)).address
    if broker is not None:
        tell_progress(f"connecting to the broker at {broker.endpoint}")
        await disconnect(await connect_first(broker))
    return broker
