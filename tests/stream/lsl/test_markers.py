"""Marker streams of the real liblsl, as they come and go, to markers at their own time."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from stream.controls import Controls
from stream.lsl import markers as markers_module
from stream.lsl.markers import LslMarkers, as_line
from stream.messages import CommandOutcome, EngineCommand, Marker, Origin
from stream.sinks.base import attached
from tests.stream.brokers import until
from tests.stream.scripted import Collected, ScriptedSource, frame, make_engine, small_bundle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from stream.sources.events import SourceEvent


class Marked:
    """What controls pass markers on to."""

    def __init__(self) -> None:
        self.markers: list[Marker] = []

    def command(self, command: EngineCommand) -> CommandOutcome:
        return CommandOutcome(True)

    def mark(self, text: str, origin: Origin, marked_at: float | None = None) -> Marker:
        assert marked_at is not None
        self.markers.append(Marker(text, marked_at, None, origin))
        return self.markers[-1]


def outlet(pylsl: Any, name: str, channels: int = 1, channel_format: str = "string") -> Any:
    return pylsl.StreamOutlet(pylsl.StreamInfo(name, "Markers", channels, 0, channel_format, f"id of {name}"))


@asynccontextmanager
async def listening(pylsl: Any) -> AsyncIterator[tuple[LslMarkers, list[Marker]]]:
    marked, controls = Marked(), Controls()
    controls.attach(marked)
    sink = LslMarkers(controls)
    async with attached([sink]):
        yield sink, marked.markers


def has_heard(markers: list[Marker], number: int) -> bool:
    return len(markers) >= number


async def heard(sink: LslMarkers, *outlets: Any) -> None:
    await until(lambda: all(each.have_consumers() for each in outlets), 20)


async def test_markers_are_marked_at_their_own_time(pylsl: Any) -> None:
    stimuli = outlet(pylsl, "stimuli")
    async with listening(pylsl) as (sink, markers):
        await heard(sink, stimuli)
        sent = [(f"picture {n}", time.time() - n) for n in range(5)]
        for text, at in sent:
            stimuli.push_sample([text], pylsl.local_clock() - (time.time() - at))
        await until(lambda: len(markers) == 5)
        assert [marker.text for marker in markers] == [text for text, _ in sent]
        for marker, (_, at) in zip(markers, sent, strict=True):
            assert marker.marked_at == pytest.approx(at, abs=0.005)
            assert marker.origin == "lsl"
        assert sink.counters["lsl_markers"] == 5
        assert sink.counters["lsl_marker_streams"] == 1


async def test_streams_come_and_go_and_come_again(pylsl: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with listening(pylsl) as (sink, markers):
        for number in (1, 2):
            button = outlet(pylsl, "button", channel_format="int32", channels=2)
            await heard(sink, button)
            button.push_sample([7, number])
            await until(partial(has_heard, markers, number))
            del button
            await until(lambda: sink.counters["lsl_marker_streams"] == 0, 20)
        assert [marker.text for marker in markers] == ["7 1", "7 2"]
    events = [record.event for record in caplog.records if record.name == "stream.lsl.markers"]  # type: ignore[attr-defined]
    assert events == ["connected", "lost"] * 2


async def test_several_streams_up_to_a_bound(pylsl: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(markers_module, "MOST_STREAMS", 2)
    async with listening(pylsl) as (sink, markers):
        streams = [outlet(pylsl, f"stream {n}") for n in range(2)]
        await heard(sink, *streams)
        third = outlet(pylsl, "stream 2")
        for stream in streams:
            stream.push_sample(["here"])
        await until(lambda: len(markers) == 2)
        await asyncio.sleep(2)
        assert not third.have_consumers()
        assert sink.counters["lsl_marker_streams"] == 2


async def test_what_cannot_be_a_marker_is_counted_and_what_is_too_long_is_cut(pylsl: Any) -> None:
    stimuli = outlet(pylsl, "odd")
    async with listening(pylsl) as (sink, markers):
        await heard(sink, stimuli)
        for text in (" ", "two\nlines\tof it", "x" * 500, "good"):
            stimuli.push_sample([text])
        await until(lambda: sink.counters["lsl_markers"] == 3)
        assert [marker.text for marker in markers] == ["two lines of it", "x" * 200, "good"]
        assert sink.drops == {"lsl_markers_refused": 1}
        assert sink.counters["lsl_markers_cut"] == 1


async def test_a_flood_is_held_back_and_ends_at_once(pylsl: Any) -> None:
    stimuli = outlet(pylsl, "flood")
    async with listening(pylsl) as (sink, markers):
        await heard(sink, stimuli)
        for n in range(5000):
            stimuli.push_sample([f"{n}"])
        await until(lambda: len(markers) > 100)
        assert sink.counters["lsl_markers_waiting"] <= 64
        began = time.monotonic()
    assert time.monotonic() - began < 3.0


def test_before_a_run_there_is_nothing_to_mark() -> None:
    assert as_line(["a", "b c"]) == "a b c"
    assert as_line([1.0, 2.5, 3]) == "1 2.5 3"
    assert as_line(["\x00\n"]) == ""


async def test_a_live_run_marks_the_frame_that_was_there(pylsl: Any, tmp_path: Path) -> None:
    """From a stimulus program to every sink: the media time of a marker is that of the frame captured then."""
    captured: list[float] = []

    def ticks() -> Iterator[SourceEvent]:
        began = time.monotonic()
        for index in range(150):
            time.sleep(max(0.0, began + index / 30 - time.monotonic()))
            captured.append(time.time())
            yield frame(index)

    stimuli = outlet(pylsl, "stimulus program")
    controls, seen = Controls(), Collected()
    sink = LslMarkers(controls)
    bundle = await asyncio.to_thread(small_bundle, tmp_path / "bundle")
    engine = make_engine(bundle, ScriptedSource(ticks(), live=True, sound=False), [sink, seen])
    controls.attach(engine)

    async def stimulate() -> float:
        await heard(sink, stimuli)
        await until(lambda: len(captured) > 60)
        at = time.time()
        stimuli.push_sample(["door"])
        return at

    at, _ = await asyncio.gather(stimulate(), engine.run())
    (marker,) = seen.markers
    assert marker.text == "door"
    assert marker.marked_at == pytest.approx(at, abs=0.01)
    assert marker.time_s == pytest.approx(at - captured[0], abs=1.5 / 30)
