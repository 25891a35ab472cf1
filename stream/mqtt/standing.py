"""What a publisher says again and again, retained: its latest estimate (`state`) and how it is doing (`status`)."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

from stream.mqtt.topics import encode, steady_part

if TYPE_CHECKING:
    from stream.messages import Estimate, Status
    from stream.mqtt.publishing import Publisher

STATE_EVERY_S: Final = 1.0
STATUS_EVERY_S: Final = 5.0
STATUS_CHANGES_EVERY_S: Final = 0.25


class Standing:
    """Keeps the newest estimate and status, and publishes them over whatever connection there is."""

    def __init__(self) -> None:
        self._estimate: Estimate | None = None
        self._status: Status | None = None
        self._status_arrived = asyncio.Event()

    def take_estimate(self, estimate: Estimate) -> None:
        """This is the newest provisional estimate."""
        self._estimate = estimate

    def take_status(self, status: Status) -> None:
        """This is the engine's state."""
        self._status = status
        self._status_arrived.set()

    async def send_state(self, publisher: Publisher) -> None:
        """Publish `state` once a second while there are new estimates, until cancelled or the connection is lost."""
        sent: Estimate | None = None
        while True:
            if self._estimate is not None and self._estimate is not sent:
                sent = self._estimate
                await publisher.publish("state", encode(sent.to_state()))
            await asyncio.sleep(STATE_EVERY_S)

    async def send_status(self, publisher: Publisher) -> None:
        """Publish `status` on change and every few seconds, until cancelled or the connection is lost."""
        clock = asyncio.get_running_loop().time
        sent: dict[str, Any] | None = None
        sent_at = 0.0
        while True:
            # Before it is read: what arrives from here on is looked at in the next round.
            self._status_arrived.clear()
            if self._status is not None:
                steady = steady_part(self._status)
                if steady != sent or clock() - sent_at >= STATUS_EVERY_S:
                    await publisher.publish("status", encode(self._status.to_json()))
                    sent, sent_at = steady, clock()
            # However often a status changes, it is published no more often than this.
            await asyncio.sleep(STATUS_CHANGES_EVERY_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, sent_at + STATUS_EVERY_S - clock())):
                    await self._status_arrived.wait()

    async def send_last(self, publisher: Publisher) -> None:
        """Publish both as they stand at the end."""
        if self._estimate is not None:
            await publisher.publish("state", encode(self._estimate.to_state()))
        if self._status is not None:
            await publisher.publish("status", encode(self._status.to_json()))
