"""Real processes that die and come back while the whole engine runs: a sender of pictures, a broker."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from stream.build import assemble, load
from stream.estimation.batching import frames_at_once
from stream.mqtt.sink import MqttSink
from stream.options import DEMO_BUNDLE, LATENCY_TARGET_MS, InputOptions
from tests.stream.brokers import Mosquitto, Subscriber, until
from tests.stream.scripted import Collected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from stream.sinks.base import Sink

TICK_S = 1 / 30

SENDER = """
import sys, time
from fractions import Fraction
import av

source, port = sys.argv[1], sys.argv[2]
with av.open(f"udp://127.0.0.1:{port}?pkt_size=1316", "w", format="mpegts") as out:
    video = out.add_stream("mpeg2video", rate=25)
    video.width, video.height, video.pix_fmt = 360, 288, "yuv420p"
    video.bit_rate = 2_000_000
    video.codec_context.gop_size = 6
    began, sent = time.monotonic(), 0
    while True:
        with av.open(source) as clip:
            for picture in clip.decode(video=0):
                time.sleep(max(0.0, began + sent / 25 - time.monotonic()))
                picture = picture.reformat(360, 288, "yuv420p")
                picture.pts, picture.time_base = sent, Fraction(1, 25)
                sent += 1
                out.mux(video.encode(picture))
"""


class Sender:
    """Another process that sends a recording over UDP, over and over, at its own pace."""

    def __init__(self, recording: Path) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._recording = recording
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"udp://127.0.0.1:{self.port}?overrun_nonfatal=1&fifo_size=50000"

    def start(self) -> None:
        command = [sys.executable, "-c", SENDER, str(self._recording), str(self.port)]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture
def sender(fixtures: Path) -> Iterator[Sender]:
    sending = Sender(fixtures / "clips" / "lbax4n.mpg")
    sending.start()
    yield sending
    sending.kill()


class Running:
    """An engine over a live source, until the body ends."""

    def __init__(self, source: str, *sinks: Sink) -> None:
        self._source, self._sinks = source, sinks
        self.seen = Collected()

    async def __aenter__(self) -> Running:
        options = InputOptions(self._source, bundle=DEMO_BUNDLE, recogniser="none", budget="full")
        parts = await asyncio.to_thread(load, options)
        self._engine = assemble(parts, [self.seen, *self._sinks], budget="full")
        self.status = self._engine.status
        self._task = asyncio.create_task(self._engine.run())
        return self

    async def __aexit__(self, *raised: object) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    def health(self, name: str) -> str:
        return self.status().inputs[name].health

    async def frames(self, more: int, timeout_s: float = 60.0) -> None:
        upto = len(self.seen.provisional) + more
        await until(lambda: self._task.done() or len(self.seen.provisional) >= upto, timeout_s)
        assert not self._task.done(), self._task.exception()


@pytest.mark.slow
async def test_a_sender_killed_and_started_again_goes_on_on_the_same_axis(sender: Sender) -> None:
    async with Running(sender.url) as run:
        await run.frames(40)
        began = run.seen.provisional[0]
        sender.kill()
        await until(lambda: run.health("camera") != "ok", timeout_s=30)
        blind = len(run.seen.provisional)
        await run.frames(20)
        assert any(not e.present.face for e in run.seen.provisional[blind:]), "ticks go on without a picture"
        sender.start()
        await until(lambda: run.health("camera") == "ok", timeout_s=60)
        back = len(run.seen.provisional)
        await run.frames(40)
        after = run.seen.provisional[back + 20]
        counters = run.status().counters
    seen = run.seen
    for estimates in (seen.provisional, seen.settled):
        frames = [e.frame for e in estimates]
        assert frames == sorted(set(frames)), "nothing twice, nothing backwards"
        assert all(b.time_s > a.time_s for a, b in pairwise(estimates))
    # One axis: media time went on with the clock on the wall while the sender was away.
    media_s, wall_s = after.time_s - began.time_s, after.captured_at - began.captured_at
    assert media_s == pytest.approx(wall_s, abs=0.5)
    assert counters["ticks_without_picture"] > 0
    healths = [s.inputs["camera"].health for s in seen.statuses]
    assert healths[-1] == "ok"
    assert {"waiting", "lost"} & set(healths)
    # Ended in the middle of a batch, that batch may not have settled.
    at_most_unsettled = frames_at_once(LATENCY_TARGET_MS, 1 / TICK_S)
    assert len(seen.settled) >= len(seen.provisional) - at_most_unsettled, "without sound all settles at once"


@pytest.mark.slow
async def test_a_broker_that_restarts_while_a_stream_runs_misses_nothing_settled(
    sender: Sender,
    mosquitto: Mosquitto,
    subscribe: Callable[[int], Subscriber],
    tmp_path: Path,
) -> None:
    sink = MqttSink(mosquitto.address, publisher_id="me", outbox=tmp_path / "outbox")
    before = subscribe(mosquitto.port)
    async with Running(sender.url, sink) as run:
        await until(lambda: len(before.payloads("affect/me/settled")) > 20, timeout_s=60)
        mosquitto.kill()
        before.close()
        away_from = len(run.seen.provisional)
        await run.frames(45)
        assert len(run.seen.provisional) >= away_from + 45, "inference is not held up"
        mosquitto.start()
        after = subscribe(mosquitto.port)
        await until(lambda: "online" in after.payloads("affect/me/available"), timeout_s=60)
        for topic in ("state", "status"):
            await until(lambda topic=topic: after.payloads(f"affect/me/{topic}"), timeout_s=30)  # type: ignore[misc]
        await run.frames(20)
        newest = run.seen.settled[-1].frame
        await until(lambda: _frames(after)[-1:] >= [newest], timeout_s=60)
        drops = run.status().drops
    assert drops["mqtt_disconnected"] >= 30, "provisional estimates of the outage are dropped and counted"
    first, second = _frames(before), _frames(after)
    assert first == sorted(set(first))
    assert second == sorted(set(second)), "in order, each once"
    settled = [e.frame for e in run.seen.settled]
    # What was on the wire when the broker died may have been lost with it, or be sent again: no more than that.
    missing = set(settled) - set(first) - set(second)
    assert len([f for f in missing if f <= newest]) <= 2
    assert len(set(first) & set(second)) <= 2
    assert [p["frame"] for p in map(json.loads, after.payloads("affect/me/settled"))] == second


def _frames(subscriber: Subscriber) -> list[int]:
    return [json.loads(payload)["frame"] for payload in subscriber.payloads("affect/me/settled")]
