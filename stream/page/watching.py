"""The page of everything that publishes at a broker: `stream-watch --page`."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import aiomqtt

from models.console import tell
from stream.broker.client import RefusedError
from stream.broker.connection import heeding_cancellation
from stream.controls import check_marker_text
from stream.messages import CommandOutcome, EngineCommand
from stream.mqtt.topics import PREFIX
from stream.page.feed import Feed
from stream.page.server import WebServer
from stream.page.sink import introduction
from stream.page.site import make_site
from stream.view.watch import Watched, watch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stream.broker.connection import BrokerAddress
    from stream.page.options import PageOptions

BROKER_AWAY = "the broker is away"


class WatchPage:
    """Serves the page of what a watcher hears, and publishes commands and markers for those that it hears of."""

    shows_marker_entry = True

    def __init__(self, options: PageOptions, *, say: Callable[[str], None] = tell) -> None:
        self._options = options
        self._say = say
        self._client: aiomqtt.Client | None = None
        self._feed = Feed(shows_words=True)
        self._server = WebServer(
            make_site(self._feed, self, options, kind="watch"), options.host, options.port
        )

    @property
    def url(self) -> str:
        """The page's address, at the port that it has got."""
        return self._options.url(self._server.port)

    async def open(self) -> None:
        """Begins to serve, and says where. Raises UserError where the address cannot be had."""
        await self._server.open()
        self._say(introduction(self._options, self.url))

    async def close(self) -> None:
        """Ends the server."""
        self._feed.end()
        await asyncio.sleep(0)
        await self._server.close()

    def take(self, publisher_id: str, kind: str, message: Mapping[str, Any] | str) -> None:
        """Takes a message that fits its topic's schema."""
        self._feed.take(publisher_id, kind, message)

    def connected(self, client: aiomqtt.Client | None) -> None:
        """The broker is there, by this connection, or away."""
        self._client = client
        self._feed.link("ok" if client is not None else "lost")

    async def command(self, publisher: str, command: EngineCommand) -> CommandOutcome:
        """Publishes a command: obeying it is the publisher's."""
        return await self._publish(publisher, f"set/{command}", b"")

    async def mark(self, publisher: str, text: str) -> CommandOutcome:
        """Publishes a marker. Raises UserError for a text that no marker can have."""
        payload = json.dumps({"text": check_marker_text(text)}).encode()
        return await self._publish(publisher, "set/marker", payload)

    async def _publish(self, publisher: str, topic: str, payload: bytes) -> CommandOutcome:
        if self._client is None:
            return CommandOutcome(False, BROKER_AWAY)
        try:
            sending = self._client.publish(f"{PREFIX}/{publisher}/{topic}", payload, qos=1)
            await heeding_cancellation(sending)
        except aiomqtt.MqttError:
            return CommandOutcome(False, BROKER_AWAY)
        except RefusedError as error:
            return CommandOutcome(False, f"The broker refuses it: {error}")
        return CommandOutcome(True, f"Sent to {publisher}.")


async def watch_with_page(broker: BrokerAddress, options: PageOptions, **how: Any) -> Watched:
    """`stream.view.watch.watch`, with a page beside it. Raises what that raises, and UserError for the page."""
    page = WatchPage(options)
    await page.open()
    try:
        return await watch(broker, listener=page, **how)
    finally:
        await page.close()
