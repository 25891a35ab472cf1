"""Watching from elsewhere: everything that publishes at a broker, as a terminal view or as JSON lines."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from collections import Counter, OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Final, Protocol, TextIO

import aiomqtt

from models.console import waiting
from models.errors import UserError
from stream.broker.connection import (
    BROKER_BACKOFF,
    BrokerAddress,
    abandon,
    connect,
    connect_first,
    disconnect,
    heeding_cancellation,
    next_address,
)
from stream.broker.receipts import acknowledge
from stream.mqtt.topics import PREFIX, check_publisher_id
from stream.schemas import TOPICS, complaint
from stream.view.panel import Panel, clean
from stream.view.terminal import Screen, View

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from stream.flow.backoff import Backoff

MOST_PUBLISHERS: Final = 16
QUEUE_MESSAGES: Final = 1000
KEPT_S: Final = 86_400
ONCE_ONLY: Final = frozenset({"settled", "marker"})
"""What a broker may deliver twice after an outage, and nobody publishes twice."""

MOST_REMEMBERED: Final = 2048
MOST_NUMBER: Final = 1e300
AVAILABILITY: Final = ("online", "stopped", "offline")


@dataclass
class Watched:
    """What came of watching.

    Messages by topic; how many of them were malformed, or of more publishers than are shown; how many more
    there was no time for, or were repeats; and how often a connection was made.
    """

    messages: Counter[str] = field(default_factory=Counter)
    malformed: int = 0
    overlooked: int = 0
    missed: int = 0
    repeated: int = 0
    connections: int = 0
    last_complaint: str = ""

    @property
    def total(self) -> int:
        """Messages received, malformed ones included."""
        return self.messages.total()


class Listener(Protocol):
    """Whoever else wants what is heard; called from the event loop, returns at once."""

    def take(self, publisher_id: str, kind: str, message: Mapping[str, Any] | str) -> None:
        """Takes a message that fits its topic's schema, or what was said on `available`."""
        ...

    def connected(self, client: aiomqtt.Client | None) -> None:
        """Takes the connection in use, None while the broker is away."""
        ...


class Watcher:
    """Sorts messages into one panel per publisher. Pure: give it topics and payloads.

    The first `MOST_PUBLISHERS` get a panel; messages of more are counted as overlooked.
    """

    def __init__(self, hint: str = "", listener: Listener | None = None) -> None:
        self._listener = listener
        self.watched = Watched()
        self.connected = True
        self._endpoint = hint
        self._publishers: dict[str, Panel] = {}

    @property
    def panels(self) -> Sequence[Panel]:
        """One panel per publisher, by name, each with what there is to say about the watching itself."""
        # Copied first: a drawing thread asks while messages arrive.
        panels = list(self._publishers.values())
        for panel in panels:
            panel.hint = self.remark()
        return sorted(panels, key=lambda panel: panel.name)

    def take(self, topic: str, payload: bytes) -> None:
        """Take a message. One that is not what its topic promises is counted and changes nothing else."""
        _, publisher_id, kind = (*topic.split("/", 2), "", "")[:3]
        self.watched.messages[kind] += 1
        if not payload or kind.startswith("set/"):  # a retained message taken away, or a command to somebody
            return
        try:
            message = _decode_message(kind, payload)
        except ValueError as error:
            self.watched.malformed += 1
            self.watched.last_complaint = clean(f"{topic}: {error}")
            return
        panel = self._publishers.get(publisher_id)
        if panel is None:
            if len(self._publishers) >= MOST_PUBLISHERS:
                self.watched.overlooked += 1
                return
            panel = self._publishers[publisher_id] = Panel(publisher_id)
        if isinstance(message, str):
            panel.availability(message)
        elif message is not None:
            panel.take(kind, message)
        if message is not None and self._listener is not None:
            self._listener.take(publisher_id, kind, message)

    def remark(self) -> str:
        """One line about the watching itself."""
        watched = self.watched
        parts = [self._endpoint if self.connected else f"{self._endpoint} is away: trying again"]
        if watched.malformed:
            parts.append(f"{watched.malformed} malformed, the last {watched.last_complaint}")
        if watched.overlooked:
            parts.append(f"{watched.overlooked} messages of further publishers")
        if watched.missed:
            parts.append(f"{watched.missed} messages missed")
        if watched.repeated:
            parts.append(f"{watched.repeated} repeats passed over")
        return clean(" " + "; ".join(parts))


class Repeats:
    """Knows what came before of `settled` and `marker`: after an outage QoS 1 may bring the last of them again.

    Remembers so many messages as can be on their way at once, and more.
    """

    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, None] = OrderedDict()

    def is_one(self, topic: str, payload: bytes) -> bool:
        """Whether this message came before; from now on it has."""
        if topic.rpartition("/")[2] not in ONCE_ONLY:
            return False
        digest = hashlib.blake2b(
            payload, digest_size=16, key=hashlib.sha256(topic.encode()).digest()
        ).digest()
        if digest in self._seen:
            return True
        self._seen[digest] = None
        if len(self._seen) > MOST_REMEMBERED:
            self._seen.popitem(last=False)
        return False


def _decode_message(kind: str, payload: bytes) -> dict[str, Any] | str | None:
    """A message of one of our topics; None for topics we do not know. Raises ValueError."""
    if kind == "available":
        text = payload.decode("utf-8")
        if text not in AVAILABILITY:
            raise ValueError(f"'{text[:40]}' is none of {', '.join(AVAILABILITY)}")
        return text
    if kind not in TOPICS:
        return None
    message = _parse_json(payload)
    if problem := complaint(kind, message):
        raise ValueError(problem[:160])
    decoded: dict[str, Any] = message
    return decoded


def _parse_json(payload: bytes) -> Any:
    """Strict JSON. Raises ValueError, also for NaN, for numbers without end, and for nesting beyond reason."""
    try:
        return json.loads(
            payload,
            parse_constant=_refuse_constant,
            parse_float=partial(_bounded, float),
            parse_int=partial(_bounded, int),
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _bounded(kind: type[float], digits: str) -> float:
    """A number that can be drawn and written as JSON again, as one that is read as infinity cannot."""
    number = kind(digits)
    if not abs(number) < MOST_NUMBER:
        raise ValueError(f"{digits[:20]} is too large a number")
    return number


async def watch(
    broker: BrokerAddress,
    *,
    publisher_id: str = "+",
    as_json: bool = False,
    count: int | None = None,
    seconds: float | None = None,
    view: View = "auto",
    console: Console | None = None,
    output: TextIO | None = None,
    catch_up: str | None = None,
    backoff: Backoff = BROKER_BACKOFF,
    listener: Listener | None = None,
) -> Watched:
    """Watch `affect/<publisher_id>/#` (`+`: everybody) until cancelled, for `count` messages or `seconds`.

    Shows a panel per publisher and a summary at the end; `as_json` writes each message as one JSON line
    `{"topic": ..., "payload": ...}` to `output` (stdout) instead, the payload as text where it is not JSON.
    A `listener` gets every message too. A broker that goes away is sought again with growing waits. A reader that
    goes away (`| head`) ends it.
    With a name to `catch_up` by, the broker keeps what is published at QoS 1 meanwhile, and after the end too, for
    the next with that name. Settled frames and markers that come a second time are passed over, and counted.
    Raises UserError where the broker cannot be reached at the start or the id or name cannot be one.
    """
    topics = f"{PREFIX}/{publisher_id if publisher_id == '+' else check_publisher_id(publisher_id)}/#"
    watcher = Watcher(f"{topics} at {broker.endpoint}", listener)
    writer = _LineWriter(output or sys.stdout) if as_json else None
    screen = None if as_json else Screen(lambda: watcher.panels, watcher.remark, view=view, console=console)
    options = {**_queue_options(watcher.watched), **_catching_up(catch_up)}
    with waiting(f"connecting to the broker at {broker.endpoint}", tell_first=False):
        client = await connect_first(broker, **options)
    tasks = {
        asyncio.create_task(
            _receive(client, broker, options, topics, watcher, writer, count, backoff, listener)
        )
    }
    if screen is not None:
        tasks.add(asyncio.create_task(screen.run()))
    try:
        done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if screen is not None:
            await screen.close()
    for task in done:
        task.result()
    return watcher.watched


async def _receive(
    client: aiomqtt.Client | None,
    broker: BrokerAddress,
    options: dict[str, Any],
    topics: str,
    watcher: Watcher,
    writer: _LineWriter | None,
    count: int | None,
    backoff: Backoff,
    listener: Listener | None,
) -> None:
    """Until `count` messages came or the reader of the lines is gone."""
    random = Random()
    repeats = Repeats()
    try:
        while True:
            try:
                if client is None:
                    backoff, wait_s = backoff.step(random)
                    await asyncio.sleep(wait_s)
                    client = await connect(broker, **options)
                await heeding_cancellation(client.subscribe(topics, qos=1))
                broker = next_address(broker, client)
                watcher.connected = True
                watcher.watched.connections += 1
                if listener is not None:
                    listener.connected(client)
                async for message in client.messages:
                    backoff = backoff.reset()
                    gone = _take(message, repeats, watcher, writer)
                    acknowledge(client, message)
                    if gone or watcher.watched.total == count:
                        return
            except (aiomqtt.MqttError, UserError):
                watcher.connected = False
                if listener is not None:
                    listener.connected(None)
                if client is not None:
                    await abandon(client)
                client = None
    finally:
        if client is not None:
            await disconnect(client)


def _take(message: aiomqtt.Message, repeats: Repeats, watcher: Watcher, writer: _LineWriter | None) -> bool:
    """Whether the reader of the lines is gone."""
    topic, payload = str(message.topic), bytes(message.payload)
    if repeats.is_one(topic, payload):
        watcher.watched.repeated += 1
        return False
    watcher.take(topic, payload)
    return writer is not None and not writer.write(topic, payload)


class _LineWriter:
    """Messages as JSON lines."""

    def __init__(self, output: TextIO) -> None:
        self._output = output

    def write(self, topic: str, payload: bytes) -> bool:
        """Whether there is still somebody who reads."""
        try:
            content = _parse_json(payload)
        except ValueError:
            content = payload.decode("utf-8", "replace")
        try:
            print(json.dumps({"topic": topic, "payload": content}), file=self._output, flush=True)
        except BrokenPipeError:
            # What the interpreter flushes at exit must not complain a second time.
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._output.fileno())
            return False
        return True


def _queue_options(watched: Watched) -> dict[str, Any]:
    """A bounded queue for incoming messages, which counts what it has no room for."""

    class Incoming(asyncio.Queue[aiomqtt.Message]):
        def put_nowait(self, item: aiomqtt.Message) -> None:
            if self.full():
                watched.missed += 1
            else:
                super().put_nowait(item)

    return {"queue_type": Incoming, "max_queued_incoming_messages": QUEUE_MESSAGES}


def _catching_up(name: str | None) -> dict[str, Any]:
    """What has the broker keep messages for the next of this name. Raises UserError for one that cannot be."""
    if name is None:
        return {}
    return {"identifier": f"affect-watch-{check_publisher_id(name)}", "keep_s": KEPT_S}
