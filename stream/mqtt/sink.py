"""The MQTT sink: publishes to a broker, and keeps settled frames through an outage until they are delivered.

Topics, under `affect/<id>/` (`docs/mqtt.md`): `available`, `estimate`, `settled`, `state`, `status`, `marker` and,
only where asked for, `transcript`; commands come in on `set/...` and are answered on `ack`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections import Counter
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Final

import aiomqtt

from models.errors import UserError
from stream.broker.client import RefusedError
from stream.broker.connection import (
    BROKER_BACKOFF,
    BrokerAddress,
    abandon,
    connect,
    connect_first,
    disconnect,
    heeding_cancellation,
    next_address,
    until_lost,
)
from stream.broker.mqtt5 import is_refusal
from stream.logs import note
from stream.mqtt.commands import Acknowledgement, CommandDesk
from stream.mqtt.home_assistant import BORN, HomeAssistant
from stream.mqtt.outbox import Outbox, default_outbox
from stream.mqtt.publishing import Publisher
from stream.mqtt.settled import SettledDelivery
from stream.mqtt.standing import Standing
from stream.mqtt.topics import PREFIX, check_publisher_id, default_publisher_id, encode
from stream.mqtt.waiting import Thinner, Waiting

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from stream.controls import Controlled
    from stream.flow.backoff import Backoff
    from stream.messages import Estimate, Marker, Status, Transcript

log = logging.getLogger(__name__)

CAUSES: Final = (
    "mqtt_disconnected",
    "mqtt_queue",
    "mqtt_transcript",
    "mqtt_marker",
    "mqtt_ack",
    "mqtt_refused",
    "mqtt_not_a_number",
    "mqtt_settled_queue",
    "mqtt_outbox_full",
    "mqtt_outbox_failed",
)
ESTIMATE_QUEUE: Final = 32
TRANSCRIPT_QUEUE: Final = 64
MARKER_QUEUE: Final = 256
ACK_QUEUE: Final = 64
OUTBOX_FRAMES: Final = 108_000
CLOSE_TIMEOUT_S: Final = 3.0
GOOD_CONNECTION_S: Final = 10.0


class MqttSink:
    """Publishes to one broker under `affect/<publisher_id>/`; a broker that goes away holds nobody up.

    `open` must reach the broker (UserError otherwise). Lost later, it is sought again with growing, jittered
    waits; meanwhile estimates are dropped and counted, markers wait in memory and settled frames in the outbox, and
    on return `available`, `state` and `status` are sent again. `close` delivers what it can in a few seconds, says
    `stopped` and disconnects; without that the broker says `offline` (last will).

    `rate` thins `estimate` to so many a second of media time; `settled` always has every frame.
    `publish_transcript` lets recognised words out. `controls` are told, in the event loop, what commands ask; without
    them every command is answered that it is not obeyed. With `home_assistant` the publisher is announced there, by
    the discovery prefix given. `outbox` is the file that outlives an outage (by default one per id and broker in this
    user's state folder), of at most `outbox_frames` frames: an hour at 30 a second.
    Raises UserError for an id, a rate or a prefix that cannot be used.
    """

    name = "mqtt"

    def __init__(
        self,
        broker: BrokerAddress,
        *,
        publisher_id: str | None = None,
        rate: float | None = None,
        publish_transcript: bool = False,
        controls: Controlled | None = None,
        home_assistant: str | None = None,
        outbox: Path | None = None,
        outbox_frames: int = OUTBOX_FRAMES,
        backoff: Backoff = BROKER_BACKOFF,
    ) -> None:
        self._broker = broker
        self._id = check_publisher_id(publisher_id or default_publisher_id())
        self._thinner = Thinner(rate)
        self._publish_transcript = publish_transcript
        self._backoff = backoff
        self._random = Random()
        # One identifier for every connection: the broker then ends the old one, last will included, before
        # it accepts the next, so that a late `offline` never lands on top of `online`.
        self._identifier = f"affect-{secrets.token_hex(8)}"
        self._client: aiomqtt.Client | None = None
        self._drops = Counter(dict.fromkeys(CAUSES, 0))
        self._counters: Counter[str] = Counter(mqtt_connections=0, mqtt_failed_attempts=0, mqtt_published=0)
        self._desk = CommandDesk(controls, self._counters)
        self._home_assistant = None if home_assistant is None else HomeAssistant(self._id, home_assistant)
        self._home_assistant_began = asyncio.Event()
        self._settled = SettledDelivery(
            Outbox(outbox or default_outbox(self._id, broker), outbox_frames), self._drops
        )
        self._refused: set[str] = set()
        self._contradicted = asyncio.Event()
        self._standing = Standing()
        self._estimates = self._waiting(ESTIMATE_QUEUE, "mqtt_queue", lost="mqtt_disconnected")
        self._transcripts = self._waiting(TRANSCRIPT_QUEUE, "mqtt_transcript", lost="mqtt_transcript")
        self._markers = self._waiting(MARKER_QUEUE, "mqtt_marker", lost=None)
        self._acks: Waiting[Acknowledgement] = Waiting(
            ACK_QUEUE, self._drops, pushed_out="mqtt_ack", lost="mqtt_ack"
        )

    def _waiting(self, capacity: int, pushed_out: str, *, lost: str | None) -> Waiting[bytes]:
        return Waiting(capacity, self._drops, pushed_out=pushed_out, lost=lost)

    @property
    def topic(self) -> str:
        """The prefix of this publisher's topics, without the last slash."""
        return f"{PREFIX}/{self._id}"

    @property
    def _available(self) -> str:
        return f"{self.topic}/available"

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._client is not None

    @property
    def drops(self) -> Mapping[str, int]:
        """By cause: `mqtt_disconnected`, `mqtt_queue` (a slow broker), `mqtt_transcript`, `mqtt_marker`, `mqtt_ack`,
        `mqtt_refused` (of any topic: the broker does not take it), `mqtt_not_a_number`.

        For settled frames: `mqtt_settled_queue`, `mqtt_outbox_full` (the oldest made room) and
        `mqtt_outbox_failed` (the disk).
        """
        return +self._drops

    @property
    def counters(self) -> Mapping[str, float]:
        """Connections made, attempts failed, messages published, commands heard, frames in the outbox; what waits."""
        return {
            **self._counters,
            "mqtt_outbox_frames": self._settled.in_outbox,
            "mqtt_estimates_waiting": len(self._estimates),
            "mqtt_settled_waiting": len(self._settled) - self._settled.in_outbox,
        }

    async def open(self) -> None:
        """Connect and say `online`. Raises UserError, naming the broker and the way out, where that fails."""
        await self._settled.open()
        client = await connect_first(self._broker, identifier=self._identifier, will=self._last_will())
        try:
            await self._subscribe_and_say_online(client)
        except (aiomqtt.MqttError, RefusedError) as error:
            await abandon(client)
            raise UserError(
                f"the broker at {self._broker.endpoint} accepted the connection but not a message ({error}): "
                f"see that it allows this user to publish under {self.topic}/"
            ) from None
        self._note(logging.INFO, "connected", "publishes at the broker at %s as %s", self.topic)

    async def run(self) -> None:
        """Publish until cancelled, connecting again as often as it takes."""
        while True:
            client = self._client or await self._reconnect()
            since = asyncio.get_running_loop().time()
            publisher = self._publisher(client)
            lost = await until_lost(
                self._receive(client),
                self._estimates.send(publisher.publishes("estimate")),
                self._transcripts.send(publisher.publishes("transcript")),
                self._markers.send(publisher.publishes("marker")),
                self._acks.send(partial(self._acknowledge, publisher)),
                self._standing.send_state(publisher),
                self._standing.send_status(publisher),
                self._settled.deliver(publisher.publishes("settled")),
                self._announce_again(publisher),
                self._say_online_again(publisher),
            )
            self._note(logging.WARNING, "lost", "lost the broker at %s: %s", lost)
            await self._drop_connection(client)
            if asyncio.get_running_loop().time() - since >= GOOD_CONNECTION_S:
                self._backoff = self._backoff.reset()

    async def ready(self) -> None:
        """Wait for a broker that is slow; not for one that is gone."""
        await self._estimates.ready()
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
        self._standing.take_estimate(estimate)
        if self._thinner.takes(estimate.time_s):
            self._estimates.offer(payload)

    def offer_status(self, status: Status) -> None:
        """Take the engine's state."""
        self._standing.take_status(status)

    def offer_transcript(self, transcript: Transcript) -> None:
        """Take an utterance's words, to be published only where that was asked for."""
        if self._publish_transcript:
            self._transcripts.offer(encode(transcript.to_json()))

    def offer_marker(self, marker: Marker) -> None:
        """Take a moment that somebody marked."""
        self._markers.offer(encode(marker.to_json()))

    async def close(self) -> None:
        """Deliver what is left as far as a few seconds allow, say `stopped`, disconnect, keep the rest."""
        client, self._client = self._client, None
        try:
            if client is not None:
                await self._say_goodbye(client)
        finally:
            await self._settled.close()

    async def _say_goodbye(self, client: aiomqtt.Client) -> None:
        publisher = self._publisher(client)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await self._estimates.send_waiting(publisher.publishes("estimate"))
                    await self._transcripts.send_waiting(publisher.publishes("transcript"))
                    await self._markers.send_waiting(publisher.publishes("marker"))
                    await self._acks.send_waiting(partial(self._acknowledge, publisher))
                    await self._settled.deliver_waiting(publisher.publishes("settled"))
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._standing.send_last(publisher)
                await publisher.publish("available", b"stopped")
        except (aiomqtt.MqttError, TimeoutError) as error:
            self._note(
                logging.WARNING, "lost", "could not say goodbye to the broker at %s: %s", error or "timeout"
            )
            await abandon(client)
        else:
            await disconnect(client)

    def _note(self, level: int, event: str, message: str, *more: object) -> None:
        """Logs what became of the connection; the message's first place is the broker's."""
        endpoint = self._broker.endpoint
        note(log, level, event, message % (endpoint, *more), what="broker", broker=endpoint, topic=self.topic)

    def _last_will(self) -> aiomqtt.Will:
        return aiomqtt.Will(self._available, b"offline", qos=1, retain=True)

    def _publisher(self, client: aiomqtt.Client) -> Publisher:
        return Publisher(client, self.topic, self._counters, self._count_refusal)

    def _count_refusal(self, where: str, error: RefusedError) -> None:
        self._drops["mqtt_refused"] += 1
        self._note_refusal(where, f"does not take what is published on {where} ({error})")

    def _note_refusal(self, where: str, what: str) -> None:
        """Said once of each topic."""
        if where not in self._refused:
            self._refused.add(where)
            self._note(logging.WARNING, "refused", "the broker at %s %s: see what it allows this user", what)

    async def _subscribe_and_say_online(self, client: aiomqtt.Client) -> None:
        """The first messages of every connection; `state` and `status` follow from their own tasks."""
        client.pending_calls_threshold = 1000
        publisher = Publisher(client, self.topic, self._counters)
        commands = f"{self.topic}/set/+"
        granted = await heeding_cancellation(client.subscribe(commands, qos=1))
        if any(is_refusal(each) for each in granted):
            self._note_refusal(commands, f"lets nobody command this run on {commands}")
        await heeding_cancellation(client.subscribe(self._available, qos=1))
        if self._home_assistant is not None:
            await heeding_cancellation(client.subscribe(self._home_assistant.birth_topic, qos=1))
            await self._announce(publisher, self._home_assistant)
        await publisher.publish("available", b"online")
        self._counters["mqtt_connections"] += 1
        self._broker = next_address(self._broker, client)
        self._client = client
        for waiting in (self._estimates, self._transcripts, self._markers, self._acks):
            waiting.connect()

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
                except (aiomqtt.MqttError, RefusedError, UserError) as error:
                    self._counters["mqtt_failed_attempts"] += 1
                    log.debug("the broker at %s is still away: %s", self._broker.endpoint, error)
                    if client is not None:
                        await abandon(client)
                else:
                    self._note(logging.WARNING, "recovered", "found the broker at %s again")
                    return client
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

    async def _drop_connection(self, client: aiomqtt.Client) -> None:
        self._client = None
        await self._settled.interrupt()
        for waiting in (self._estimates, self._transcripts, self._markers, self._acks):
            waiting.disconnect()
        await abandon(client)

    async def _receive(self, client: aiomqtt.Client) -> None:
        """Commands, Home Assistant saying that it has started, and what is said of us."""
        async for message in client.messages:
            home_assistant = self._home_assistant
            if str(message.topic) == self._available:
                if not message.retain and message.payload in (b"offline", b"stopped"):
                    self._contradicted.set()
            elif home_assistant is not None and str(message.topic) == home_assistant.birth_topic:
                if message.payload == BORN:
                    self._home_assistant_began.set()
            elif (answer := self._desk.take(message)) is not None:
                self._acks.offer(answer)

    async def _acknowledge(self, publisher: Publisher, answer: Acknowledgement) -> None:
        payload = encode(answer.to_json())
        await publisher.publish_as("ack", payload, f"{self.topic}/ack", answer.correlation)
        if answer.answer_at not in (None, f"{self.topic}/ack"):
            await publisher.publish_as("ack", payload, answer.answer_at, answer.correlation)

    async def _announce_again(self, publisher: Publisher) -> None:
        """Announce the publisher whenever Home Assistant has started."""
        while True:
            await self._home_assistant_began.wait()
            self._home_assistant_began.clear()
            if self._home_assistant is not None:
                await self._announce(publisher, self._home_assistant)

    async def _say_online_again(self, publisher: Publisher) -> None:
        """Say `online` whenever another run of this name ended: by a late last will, or because there were two."""
        while True:
            await self._contradicted.wait()
            self._contradicted.clear()
            message = "at the broker at %s another run ended that publishes as %s: this one says online again"
            self._note(logging.WARNING, "note", message, self.topic)
            await publisher.publish("available", b"online")

    async def _announce(self, publisher: Publisher, home_assistant: HomeAssistant) -> None:
        await publisher.retain(home_assistant.topic, encode(home_assistant.announcement()))
        self._counters["mqtt_home_assistant"] += 1
