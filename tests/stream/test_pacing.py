"""What waits and what is dropped on the way of a recording and of a live source, apart from the engine."""

from __future__ import annotations

import asyncio
import time

import pytest

from models.errors import UserError
from stream.estimation.batching import Moment
from stream.options import EngineSettings
from stream.pacing import LiveFlow, RecordingFlow, flow_of
from stream.perception.speech import Speech, transcriber_settings
from stream.sources.events import AudioChunk, VideoFrame
from tests.stream.scripted import ScriptedSource, frame, sound


def flow(*, live: bool, pace: str = "live", budget: str = "auto") -> LiveFlow | RecordingFlow:
    speech = Speech(None, transcriber_settings(300, 30.0), has_sound=False)
    settings = EngineSettings(pace=pace, budget=budget)  # type: ignore[arg-type]
    made = flow_of(ScriptedSource([], live=live), speech, settings, time.time)
    assert isinstance(made, LiveFlow | RecordingFlow)
    return made


async def test_at_its_own_pace_sound_comes_while_the_frame_behind_it_waits_for_its_time() -> None:
    recording = flow(live=False)
    for event in (frame(0), sound(0.0, 0.5), frame(15)):
        await recording.captured.put(event)
    recording.captured.close()
    began = time.monotonic()
    assert isinstance((await recording.next_events())[0], VideoFrame)
    assert isinstance((await recording.next_events())[0], AudioChunk)
    assert time.monotonic() - began < 0.5
    late = (await recording.next_events())[0]
    assert time.monotonic() - began >= 0.49
    assert isinstance(late, VideoFrame)
    assert late.captured_at == pytest.approx(time.time(), abs=0.3)
    assert await recording.next_events() == []


async def test_a_pause_is_not_made_up_for() -> None:
    recording = flow(live=False)
    for event in (frame(0), frame(3)):
        await recording.captured.put(event)
    await recording.next_events()
    recording.pause()
    waiting = asyncio.create_task(recording.next_events())
    await asyncio.sleep(0.5)
    assert not waiting.done()
    resumed = time.monotonic()
    recording.resume()
    await waiting
    assert time.monotonic() - resumed > 0.05, "the frame keeps its distance to the one before"
    assert recording.counters["behind_s"] < 0.4


async def test_as_fast_as_possible_nothing_waits_for_its_time() -> None:
    recording = flow(live=False, pace="fast")
    for event in (frame(0), frame(300), frame(600)):
        await recording.captured.put(event)
    assert [e.index for e in await recording.next_events() if isinstance(e, VideoFrame)] == [0, 300, 600]
    assert not recording.is_timed


async def test_live_events_are_taken_up_to_a_frame() -> None:
    live = flow(live=True)
    for event in (sound(0.0, 0.1), frame(0), frame(1)):
        await live.captured.put(event)
    assert len(await live.next_events()) == 2
    assert len(await live.next_events()) == 1


async def test_a_recording_waits_where_a_live_source_drops_the_oldest() -> None:
    recording, live = flow(live=False), flow(live=True)
    for passed_on in range(recording.perceived.capacity):
        await recording.pass_on(Moment(None, ()))
        assert len(recording.perceived) == passed_on + 1
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await recording.pass_on(Moment(None, ()))
    for _ in range(live.perceived.capacity + 3):
        await live.pass_on(Moment(None, ()))
    assert (recording.perceived.dropped, live.perceived.dropped) == (0, 3)


def test_a_budget_that_is_no_rung_is_refused_for_a_live_source() -> None:
    with pytest.raises(UserError, match="no budget"):
        flow(live=True, budget="small")
