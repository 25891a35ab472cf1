"""Live inputs: ticks at their own pace, devices that come and go, everything closed at the end."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from models.errors import UserError
from stream.flow.backoff import Backoff
from stream.flow.channel import Channel
from stream.sources.devices import RequestedFormat
from stream.sources.events import SAMPLE_RATE, InputChange, NoPicture, SourceEvent, VideoFrame
from stream.sources.live import LiveSource, open_live
from stream.sources.pump import pump
from tests.stream.sources.live_inputs import (
    PROMPT,
    TICK,
    Devices,
    frames_of,
    health_of,
    jumped,
    microphone,
    picture,
    sound_of,
    stalled,
    unplugged,
    watch,
)


def test_ticks_at_their_own_pace_with_sound_beside_them() -> None:
    devices = Devices()
    source = LiveSource(picture(), microphone(), opener=devices)
    began = time.monotonic()
    events = watch(source, 60)
    dropped = source.counters.get("ticks_dropped", 0)
    assert time.monotonic() - began == pytest.approx((60 + dropped) * TICK, abs=0.5)
    frames, sound = frames_of(events), sound_of(events)
    assert len(frames) == 60
    assert [f.time_s for f in frames] == pytest.approx(
        [i * TICK for i in range(60)], abs=0.35 + dropped * TICK
    )
    heard = sum(len(c.samples) for c in sound)
    assert heard / SAMPLE_RATE == pytest.approx((60 + dropped) * TICK, abs=0.3)
    assert max(float(np.abs(c.samples).max()) for c in sound) > 0.1
    assert health_of(events, "camera") == ["waiting", "ok"]
    assert health_of(events, "microphone") == ["waiting", "ok"]
    assert all(device.closed for device in devices.opened)


def test_a_slow_camera_repeats_and_a_fast_one_is_thinned_both_counted() -> None:
    slow = LiveSource(picture(rate=15))
    frames = frames_of(watch(slow, 60))
    assert sum(f.repeated for f in frames) == slow.counters["camera_repeats"]
    assert 25 <= slow.counters["camera_repeats"] <= 35
    for before, after in pairwise(frames):
        assert (after.rgb is before.rgb) == after.repeated
    fast = LiveSource(picture(rate=60))
    watch(fast, 60)
    # Of two pictures a tick one is surplus; both of them at a tick that a busy host made the source drop, and the
    # one that came too late for a tick at its next.
    dropped, repeats = fast.counters.get("ticks_dropped", 0), fast.counters.get("camera_repeats", 0)
    assert 50 <= fast.counters["camera_surplus"] - 2 * dropped - repeats <= 65
    assert repeats <= 5 + dropped


def test_a_camera_unplugged_comes_back_on_the_same_axis_while_sound_goes_on() -> None:
    gone = UserError("camera 0 cannot be opened (No such device)")
    # Lost at the 21st picture, away for three tries: 0.1 s, 0.2 s, 0.4 s and 0.4 s at most.
    devices = Devices(camera=[unplugged(20), gone, gone, gone])
    source = LiveSource(replace(picture(), endless=True), microphone(), opener=devices, backoff=PROMPT)
    events = watch(source, 75)
    assert health_of(events, "camera")[:3] == ["waiting", "ok", "lost"]
    assert health_of(events, "camera")[-1] == "ok"
    lost = [e for e in events if isinstance(e, InputChange) and e.status.health == "lost"]
    assert "No such device" in lost[0].status.detail
    assert "trying again" in lost[0].status.way_out
    assert source.counters["camera_losses"] == 4
    away = [e for e in events if isinstance(e, NoPicture)]
    assert len(away) == source.counters.get("ticks_without_picture", 0)
    assert frames_of(events)[-1].time_s > 1.5
    assert frames_of(events)[-1].captured_at == pytest.approx(time.time(), abs=1.0)
    assert health_of(events, "microphone") == ["waiting", "ok"]
    assert "audio_gaps" not in source.counters
    assert all(device.closed for device in devices.opened)


def test_a_camera_away_for_long_gives_ticks_without_a_picture() -> None:
    gone = UserError("camera 0 cannot be opened (No such device)")
    devices = Devices(camera=[unplugged(10), *[gone] * 1000])
    source = LiveSource(replace(picture(), endless=True), opener=devices, backoff=PROMPT)
    events = watch(source, 60)
    kinds = [type(e) for e in events if isinstance(e, VideoFrame | NoPicture)]
    # The last picture is shown for half a second at most; nothing is invented after that.
    assert kinds == sorted(kinds, key=lambda kind: kind is NoPicture)
    assert 10 <= kinds.count(VideoFrame) <= 10 + 0.5 / TICK + 2
    assert kinds.count(NoPicture) == source.counters["ticks_without_picture"]


def test_a_microphone_that_goes_leaves_a_gap_of_the_right_length() -> None:
    devices = Devices(microphone=[unplugged(50)])
    source = LiveSource(
        picture(), replace(microphone(), endless=True), opener=devices, backoff=Backoff(0.8, 0.8)
    )
    events = watch(source, 75)
    assert health_of(events, "microphone") == ["waiting", "ok", "lost", "ok"]
    assert source.counters["microphone_losses"] == 1
    assert source.counters["audio_gaps"] == 1
    assert 0.35 < source.counters["audio_gap_samples"] / SAMPLE_RATE < 1.2
    assert len(frames_of(events)) == 75
    end_s = sound_of(events)[-1].end_sample / SAMPLE_RATE
    assert end_s == pytest.approx(frames_of(events)[-1].time_s, abs=0.25)


def test_a_picture_that_stalls_is_said_and_taken_up_again() -> None:
    source = LiveSource(picture(), opener=Devices(camera=[stalled(20, 1.0)]))
    events = watch(source, 75)
    assert health_of(events, "camera") == ["waiting", "ok", "waiting", "ok"]
    assert source.counters["ticks_without_picture"] > 5
    assert source.counters.get("camera_losses", 0) == 0


@pytest.mark.parametrize("jump_s", [-500.0, 500.0])
def test_timestamps_that_jump_do_not_move_the_axis(jump_s: float) -> None:
    source = LiveSource(picture(), opener=Devices(camera=[jumped(20, jump_s)]))
    events = watch(source, 60)
    assert source.counters["camera_clock_jumps"] == 1
    assert len(frames_of(events)) == 60
    assert source.counters.get("camera_repeats", 0) <= 6


def test_a_late_consumer_loses_ticks_not_freshness() -> None:
    source = LiveSource(picture())
    running: Any = source.events()
    taken = []
    for event in running:
        if isinstance(event, VideoFrame):
            taken.append(event)
            if len(taken) == 20:
                time.sleep(0.6)
            if len(taken) == 25:
                break
    running.close()
    assert source.counters["ticks_dropped"] == pytest.approx(0.6 / TICK, abs=5)
    leap_s = max(b.time_s - a.time_s for a, b in pairwise(taken))
    assert leap_s == pytest.approx(0.6, abs=0.15)
    assert taken[-1].captured_at == pytest.approx(time.time(), abs=0.3)


def test_a_stream_that_ends_ends() -> None:
    source = LiveSource(picture(seconds=0.5))
    events = list(source.events())
    assert 13 <= len(frames_of(events)) <= 18
    assert health_of(events, "camera")[-1] == "ended"


def test_a_picture_that_never_comes_is_one_clear_line() -> None:
    source = LiveSource(picture(), opener=Devices(camera=[stalled(0, 1.0)]), first_picture_s=0.3)
    with pytest.raises(UserError, match=r"gave no picture for 0\.3 s"):
        list(source.events())


def test_close_from_another_thread_ends_at_once_and_closes_the_devices() -> None:
    devices = Devices()
    source = LiveSource(picture(), microphone(), opener=devices)
    running: Any = source.events()
    next(running)
    threading.Timer(0.3, source.close).start()
    began = time.monotonic()
    for _ in running:
        pass
    assert time.monotonic() - began < 1.5
    assert all(device.closed for device in devices.opened)


def test_never_started_is_closed_all_the_same() -> None:
    devices = Devices()
    LiveSource(picture(), microphone(), opener=devices).close()
    assert len(devices.opened) == 2
    assert all(device.closed for device in devices.opened)


def test_a_microphone_that_cannot_be_opened_leaves_no_camera_open() -> None:
    devices = Devices(microphone=[UserError("microphone default cannot be opened")])
    with pytest.raises(UserError, match="microphone default"):
        LiveSource(picture(), microphone(), opener=devices)
    assert devices.opened[0].closed


async def test_cancelled_on_the_event_loop_leaves_devices_closed() -> None:
    devices = Devices()
    source = LiveSource(picture(), microphone(), opener=devices)

    async def consume() -> None:
        events: Channel[SourceEvent] = Channel(8)
        async with asyncio.TaskGroup() as group:
            group.create_task(pump(source, events))
            while True:
                await events.take()

    task = asyncio.create_task(consume())
    await asyncio.sleep(0.5)
    began = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - began < 1.5
    assert all(device.closed for device in devices.opened)


def test_given_and_asked_are_reported() -> None:
    source = LiveSource(picture(), requested=RequestedFormat(size=(1280, 720), frame_rate=30))
    watch(source, 3)
    assert source.inputs["camera"].detail.endswith("160x120 at 30/s (yuv420p), asked for 1280x720")
    assert source.inputs["microphone"].health == "off"


def test_sound_inside_a_stream_and_its_refusal() -> None:
    graph = "testsrc2=size=64x48:rate=30:duration=1,realtime[out0];sine=duration=1,arealtime[out1]"
    with_sound = open_live(f"lavfi:{graph}")
    events = list(with_sound.events())
    assert with_sound.info.has_audio
    assert sum(len(c.samples) for c in sound_of(events)) > 0.7 * SAMPLE_RATE
    without = open_live(f"lavfi:{graph}", microphone="none")
    assert not without.info.has_audio
    assert sound_of(list(without.events())) == []
