"""The MQTT sink: publishes to a broker, and keeps settled frames through an outage until they are delivered.

Topics, under `affect/<id>/` (`docs/mqtt.md`): `available`, `estimate`, `settled`, `state`, `status` and,
only where asked for, `transcript`; commands come in on `set/pause`, `set/resume` and `set/recenter`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections import Counter, deque
from random import Random
from typing import TYPE_CHECKING, Any, Final, cast, get_args

import aiomqtt

from models.errors import UserError
from stream.messages import EngineCommand, Estimate, Marker, Status, Transcript
from stream.mqtt.connection import (
    BROKER_BACKOFF,
    BrokerAddress,
    abandon,
    connect,
    connect_first,
    disconnect,
    heeding_cancellation,
    until_lost,
)
from stream.mqtt.outbox import Outbox, default_outbox
from stream.mqtt.settled import SettledDelivery
from stream.mqtt.topics import (
    PREFIX,
    check_publisher_id,
    default_publisher_id,
    encode,
    state_of,
    steady_part,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from pathlib import Path

    from stream.flow.backoff import Backoff

log = logging.getLogger(__name__)

CAUSES: Final = (
    "mqtt_disconnected",
    "mqtt_queue",
    "mqtt_transcript",
    "mqtt_not_a_number",
    "mqtt_settled_queue",
    "mqtt_outbox_full",
    "mqtt_outbox_failed",
)
ESTIMATE_QUEUE: Final = 32
TRANSCRIPT_QUEUE: Final = 64
OUTBOX_FRAMES: Final = 108_000
STATE_EVERY_S: Final = 1.0
STATUS_EVERY_S: Final = 5.0
STATUS_CHANGES_EVERY_S: Final = 0.25
CLOSE_TIMEOUT_S: Final = 3.0
GOOD_CONNECTION_S: Final = 10.0


class Thinner:
    """Lets at most `rate` of a second's frames through, evenly, by media time; all where `rate` is None."""

    def __init__(self, rate: float | None) -> None:
        if rate is not None and not 0 < rate < float("inf"):
            raise UserError(f"a rate of {rate} estimates a second cannot be kept: give a number above 0")
        self._rate = rate
        self._slot: int | None = None

    def takes(self, time_s: float) -> bool:
        """Whether the frame at this time passes: the first of each 1 / rate seconds does."""
        if self._rate is None:
            return True
        slot = int(time_s * self._rate + 1e-6)
        passes = slot != self._slot
        self._slot = slot
        return passes


class MqttSink:
    """Publishes to one broker under `affect/<publisher_id>/`; a broker that goes away holds nobody up.

    `open` must reach the broker (UserError otherwise). Lost later, it is sought again with growing, jittered
    waits; meanwhile estimates are dropped and counted and settled frames wait in the outbox, and on return
    `available`, `state` and `status` are sent again. `close` delivers what it can in a few seconds, says
    `stopped` and disconnects; without that the broker says `offline` (last will).

    `rate` thins `estimate` to so many a second of media time; `settled` always has every frame.
    `publish_transcript` lets recognised words out. `on_command` is called in the event loop for each command.
    `outbox` is the file that outlives an outage (by default one per id and broker in this user's state
    folder), of at most `outbox_frames` frames: an hour at 30 a second.
    Raises UserError for an id or a rate that cannot be used.
    """

    name = "mqtt"

    def __init__(
        self,
        broker: BrokerAddress,
        *,
        publisher_id: str | None = None,
        rate: float | None = None,
        publish_transcript: bool = False,
        on_command: Callable[[EngineCommand], object] | None = None,
        outbox: Path | None = None,
        outbox_frames: int = OUTBOX_FRAMES,
        backoff: Backoff = BROKER_BACKOFF,
    ) -> None:
        self._broker = broker
        self._id = check_publisher_id(publisher_id or default_publisher_id())
        self._thinner = Thinner(rate)
        self._publish_transcript = publish_transcript
        self._on_command = on_command
        self._backoff = backoff
        self._random = Random()
        # One identifier for every connection: the broker then ends the old one, last will included, before
        # it accepts the next, so that a late `offline` never lands on top of `online`.
        self._identifier = f"affect-{secrets.token_hex(8)}"
        self._client: aiomqtt.Client | None = None
        self._drops = Counter(dict.fromkeys(CAUSES, 0))
        self._counters: Counter[str] = Counter(mqtt_connections=0, mqtt_failed_attempts=0, mqtt_published=0)
        self._settled = SettledDelivery(
            Outbox(outbox or default_outbox(self._id, broker), outbox_frames), self._drops
        )
        self._estimates: deque[bytes] = deque()
        self._transcripts: deque[bytes] = deque()
        self._latest: Estimate | None = None
        self._status: Status | None = None
        self._estimate_arrived = asyncio.Event()
        self._transcript_arrived = asyncio.Event()
        self._status_arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    @property
    def topic(self) -> str:
        """The prefix of this publisher's topics, without the last slash."""
        return f"{PREFIX}/{self._id}"

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._client is not None

    @property
    def drops(self) -> Mapping[str, int]:
        """By cause: `mqtt_disconnected`, `mqtt_queue` (a slow broker), `mqtt_transcript`, `mqtt_not_a_number`.

        For settled frames: `mqtt_settled_queue`, `mqtt_outbox_full` (the oldest made room) and
        `mqtt_outbox_failed` (the disk).
        """
        return +self._drops

    @property
    def counters(self) -> Mapping[str, float]:
        """Connections made, attempts failed, messages published, commands heard, frames in the outbox."""
        return {**self._counters, "mqtt_outbox_frames": self._settled.in_outbox}

    async def open(self) -> None:
        """Connect and say `online`. Raises UserError, naming the broker and the way out, where that fails."""
        await self._settled.open()
        client = await connect_first(self._broker, identifier=self._identifier, will=self._last_will())
        try:
            await self._subscribe_and_say_online(client)
        except aiomqtt.MqttError as error:
            await abandon(client)
            raise UserError(
                f"the broker at {self._broker.endpoint} accepted the connection but not a message ({error}): "
                "check what it allows this user to publish"
            ) from None

    async def run(self) -> None:
        """Publish until cancelled, connecting again as often as it takes."""
        while True:
            client = self._client or await self._reconnect()
            since = asyncio.get_running_loop().time()
            lost = await until_lost(
                self._receive_commands(client),
                self._send_estimates(client),
                self._send_transcripts(client),
                self._send_state(client),
                self._send_status(client),
                self._settled.deliver(self._publisher(client, "settled", qos=1)),
            )
            log.warning("lost the broker at %s: %s", self._broker.endpoint, lost)
            await self._drop_connection(client)
            if asyncio.get_running_loop().time() - since >= GOOD_CONNECTION_S:
                self._backoff = self._backoff.reset()

    async def ready(self) -> None:
        """Wait for a broker that is slow; not for one that is gone."""
        await self._room.wait()
        await self._settled.ready()

    def offer(self, estimate: Estimate) -> None:
        """Take an estimate: a provisional one for `estimate` and `state`, a settled one for `settled`."""
        try:
            payload = encode(estimate.to_json())
        except ValueError:
            self._drops["mqtt_not_a_number"] += 1
            return
        if estimate.settled:
            self._settled.offer(payload)
            return
        self._latest = estimate
        if not self._thinner.takes(estimate.time_s):
            return
        if not self.connected:
            self._drops["mqtt_disconnected"] += 1
            return
        if len(self._estimates) >= ESTIMATE_QUEUE:
            self._estimates.popleft()
            self._drops["mqtt_queue"] += 1
        self._estimates.append(payload)
        self._estimate_arrived.set()
        self._update_readiness()

    def offer_status(self, status: Status) -> None:
        """Take the engine's state."""
        self._status = status
        self._status_arrived.set()

    def offer_transcript(self, transcript: Transcript) -> None:
        """Take an utterance's words, to be published only where that was asked for."""
        if not self._publish_transcript:
            return
        if not self.connected or len(self._transcripts) >= TRANSCRIPT_QUEUE:
            self._drops["mqtt_transcript"] += 1
            return
        self._transcripts.append(encode(transcript.to_json()))
        self._transcript_arrived.set()

    def offer_marker(self, marker: Marker) -> None:
        """Markers are not published."""

    async def close(self) -> None:
        """Deliver what is left as far as a few seconds allow, say `stopped`, disconnect, keep the rest."""
        client, self._client = self._client, None
        try:
            if client is not None:
                await self._say_goodbye(client)
        finally:
            await self._settled.close()

    async def _say_goodbye(self, client: aiomqtt.Client) -> None:
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    while self._estimates:
                        await self._publisher(client, "estimate", qos=0)(self._estimates.popleft())
                    while self._transcripts:
                        await self._publisher(client, "transcript", qos=1)(self._transcripts.popleft())
                    await self._settled.deliver_waiting(self._publisher(client, "settled", qos=1))
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                last_words = [("available", b"stopped")]
                if self._status is not None:
                    last_words.insert(0, ("status", encode(self._status.to_json())))
                if self._latest is not None:
                    last_words.insert(0, ("state", encode(state_of(self._latest))))
                for topic, payload in last_words:
                    await self._publisher(client, topic, qos=1, retain=True)(payload)
        except (aiomqtt.MqttError, TimeoutError) as error:
            log.warning(
                "could not say goodbye to the broker at %s: %s", self._broker.endpoint, error or "timeout"
            )
            await abandon(client)
        else:
            await disconnect(client)

    def _last_will(self) -> aiomqtt.Will:
        return aiomqtt.Will(f"{self.topic}/available", b"offline", qos=1, retain=True)

    def _publisher(
        self, client: aiomqtt.Client, topic: str, *, qos: int, retain: bool = False
    ) -> Callable[[bytes], Coroutine[Any, Any, None]]:
        async def publish(payload: bytes) -> None:
            sending = client.publish(f"{self.topic}/{topic}", payload, qos=qos, retain=retain)
            await heeding_cancellation(sending)
            self._counters["mqtt_published"] += 1

        return publish

    async def _subscribe_and_say_online(self, client: aiomqtt.Client) -> None:
        """The first messages of every connection; `state` and `status` follow from their own tasks."""
        client.pending_calls_threshold = 1000
        await heeding_cancellation(client.subscribe(f"{self.topic}/set/+", qos=1))
        await self._publisher(client, "available", qos=1, retain=True)(b"online")
        self._counters["mqtt_connections"] += 1
        self._client = client

    async def _reconnect(self) -> aiomqtt.Client:
        keeping = asyncio.create_task(self._settled.keep())
        try:
            while True:
                self._backoff, wait_s = self._backoff.step(self._random)
                await asyncio.sleep(wait_s)
                client: aiomqtt.Client | None = None
                try:
                    client = await connect(self._broker, identifier=self._identifier, will=self._last_will())
                    await self._subscribe_and_say_online(client)
                except (aiomqtt.MqttError, UserError) as error:
                    self._counters["mqtt_failed_attempts"] += 1
                    log.info("the broker at %s is still away: %s", self._broker.endpoint, error)
                    if client is not None:
                        await abandon(client)
                else:
                    log.warning("found the broker at %s again", self._broker.endpoint)
                    return client
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

    async def _drop_connection(self, client: aiomqtt.Client) -> None:
        self._client = None
        await self._settled.interrupt()
        self._drops["mqtt_disconnected"] += len(self._estimates)
        self._drops["mqtt_transcript"] += len(self._transcripts)
        self._estimates.clear()
        self._transcripts.clear()
        self._update_readiness()
        await abandon(client)

    def _update_readiness(self) -> None:
        if len(self._estimates) < ESTIMATE_QUEUE // 2:
            self._room.set()
        else:
            self._room.clear()

    async def _receive_commands(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            command = str(message.topic).rpartition("/")[2]
            if message.retain:
                # An old command that the broker retained: obeying it would pause every later run too.
                self._counters["mqtt_commands_retained"] += 1
            elif command in get_args(EngineCommand):
                self._counters["mqtt_commands"] += 1
                if self._on_command is not None:
                    self._on_command(cast("EngineCommand", command))
            else:
                self._counters["mqtt_commands_unknown"] += 1

    async def _send_estimates(self, client: aiomqtt.Client) -> None:
        publish = self._publisher(client, "estimate", qos=0)
        while True:
            while self._estimates:
                payload = self._estimates.popleft()
                self._update_readiness()
                try:
                    await publish(payload)
                except aiomqtt.MqttError:
                    self._drops["mqtt_disconnected"] += 1
                    raise
            self._estimate_arrived.clear()
            await self._estimate_arrived.wait()

    async def _send_transcripts(self, client: aiomqtt.Client) -> None:
        publish = self._publisher(client, "transcript", qos=1)
        while True:
            while self._transcripts:
                await publish(self._transcripts.popleft())
            self._transcript_arrived.clear()
            await self._transcript_arrived.wait()

    async def _send_state(self, client: aiomqtt.Client) -> None:
        publish = self._publisher(client, "state", qos=1, retain=True)
        sent: Estimate | None = None
        while True:
            if self._latest is not None and self._latest is not sent:
                sent = self._latest
                await publish(encode(state_of(sent)))
            await asyncio.sleep(STATE_EVERY_S)

    async def _send_status(self, client: aiomqtt.Client) -> None:
        publish = self._publisher(client, "status", qos=1, retain=True)
        clock = asyncio.get_running_loop().time
        sent: dict[str, Any] | None = None
        sent_at = 0.0
        while True:
            # Before it is read: what arrives from here on is looked at in the next round.
            self._status_arrived.clear()
            if self._status is not None:
                steady = steady_part(self._status)
                if steady != sent or clock() - sent_at >= STATUS_EVERY_S:
                    await publish(encode(self._status.to_json()))
                    sent, sent_at = steady, clock()
            # However often a status changes, it is published no more often than this.
            await asyncio.sleep(STATUS_CHANGES_EVERY_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, sent_at + STATUS_EVERY_S - clock())):
                    await self._status_arrived.wait()
