"""Live inputs for tests: really paced pictures and sound (lavfi), devices faked only at the edge."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import av.error
import numpy as np
import pytest

from stream.flow.backoff import Backoff
from stream.sources.devices import Address, open_address, stream_address
from stream.sources.events import AudioChunk, InputChange, NoPicture, SourceEvent, VideoFrame

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator

    from stream.sources.live import LiveSource


TICK = 1 / 30


PROMPT = Backoff(first_s=0.1, most_s=0.4)


def picture(seconds: float = 60.0, rate: float = 30.0) -> Address:
    return stream_address(f"lavfi:testsrc2=size=160x120:rate={rate}:duration={seconds},realtime")


def microphone(seconds: float = 60.0) -> Address:
    graph = f"sine=frequency=440:sample_rate=48000:samples_per_frame=480:duration={seconds},arealtime"
    return replace(stream_address(f"lavfi:{graph}"), kind="microphone")


class Device:
    """What an opener gives: a real container, with something that happens at its packets, or comes in their place."""

    def __init__(self, container: Any, at_packet: Callable[[int, Any], Any]) -> None:
        self.container, self.at_packet = container, at_packet
        self.streams = container.streams
        self.closed = False

    def demux(self, streams: Any) -> Iterator[Any]:
        for number, packet in enumerate(self.container.demux(streams)):
            yield self.at_packet(number, packet) or packet

    def close(self) -> None:
        self.closed = True
        self.container.close()


class Devices:
    """An opener whose n-th opening of an input does as `acts` says; later ones are well."""

    def __init__(self, **acts: list[Callable[[int, Any], Any] | Exception]) -> None:
        self.acts = acts
        self.opened: list[Device] = []

    def __call__(self, address: Address) -> Device:
        acts = self.acts.get("microphone" if address.kind == "microphone" else "camera", [])
        act = acts.pop(0) if acts else well
        if isinstance(act, Exception):
            raise act
        device = Device(open_address(address), act)
        self.opened.append(device)
        return device


def well(number: int, packet: Any) -> None:
    """Nothing happens."""


def unplugged(at: int) -> Callable[[int, Any], None]:
    def act(number: int, packet: Any) -> None:
        if number == at:
            raise OSError(19, "No such device")

    return act


class DamagedPacket:
    """A packet as a broken cable or a busy network leaves it."""

    def __init__(self, packet: Any) -> None:
        self.stream = packet.stream

    def decode(self) -> list[Any]:
        raise av.error.InvalidDataError(-1094995529, "Invalid data found when processing input")


def damaged(packets: Container[int]) -> Callable[[int, Any], DamagedPacket | None]:
    def act(number: int, packet: Any) -> DamagedPacket | None:
        return DamagedPacket(packet) if number in packets else None

    return act


def stalled(at: int, seconds: float) -> Callable[[int, Any], None]:
    def act(number: int, packet: Any) -> None:
        if number == at:
            time.sleep(seconds)

    return act


def jumped(at: int, seconds: float) -> Callable[[int, Any], None]:
    def act(number: int, packet: Any) -> None:
        if number >= at and packet.pts is not None:
            packet.pts += round(seconds / packet.time_base)
            packet.dts = packet.pts

    return act


def watch(source: LiveSource, ticks: int) -> list[SourceEvent]:
    """That many ticks and what came between them, checked against what every live source promises."""
    events: list[SourceEvent] = []
    running: Any = source.events()
    index, end = 0, 0
    last_s = -1.0
    for event in running:
        events.append(event)
        if isinstance(event, VideoFrame | NoPicture):
            assert event.index == index
            assert event.time_s > last_s
            assert event.time_s / TICK == pytest.approx(round(event.time_s / TICK))
            index, last_s = index + 1, event.time_s
            if index == ticks:
                break
        elif isinstance(event, AudioChunk):
            assert event.start_sample >= end
            assert event.samples.dtype == np.float32
            end = event.end_sample
    running.close()
    assert source.counters.get("inputs_not_closed", 0) == 0
    return events


def frames_of(events: list[SourceEvent]) -> list[VideoFrame]:
    return [e for e in events if isinstance(e, VideoFrame)]


def sound_of(events: list[SourceEvent]) -> list[AudioChunk]:
    return [e for e in events if isinstance(e, AudioChunk)]


def health_of(events: list[SourceEvent], name: str) -> list[str]:
    return [e.status.health for e in events if isinstance(e, InputChange) and e.name == name]
