"""Sources that a program feeds: a recording merged by time whatever the order, a live one on steady ticks."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from models.errors import UserError
from stream.sources import pushed
from stream.sources.events import AudioChunk, InputChange, NoPicture, VideoFrame
from stream.sources.pushed import FRAMES_WAITING, HELD_FOR_SOUND, PushedLive, PushedRecording

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stream.sources.events import SourceEvent

RATE = 16_000


def rgb(level: int = 0) -> NDArray[np.uint8]:
    return np.full((48, 64, 3), level, np.uint8)


def tone(seconds: float) -> NDArray[np.float32]:
    return np.full(round(seconds * RATE), 0.5, np.float32)


def kinds(events: list[SourceEvent]) -> str:
    return "".join("f" if isinstance(e, VideoFrame) else "s" for e in events)


class TestRecording:
    def test_frames_keep_their_times_from_the_first(self) -> None:
        source = PushedRecording(frame_rate=10.0, sound=False)
        for n in range(3):
            source.push_frame(rgb(n), 5.0 + n / 10)
        source.finish()
        frames = [e for e in source.events() if isinstance(e, VideoFrame)]
        assert [f.index for f in frames] == [0, 1, 2]
        assert [round(f.time_s, 6) for f in frames] == [0.0, 0.1, 0.2]
        assert [int(f.rgb[0, 0, 0]) for f in frames] == [0, 1, 2]
        assert source.first_frame_s == 5.0

    @pytest.mark.parametrize("sound_first", [True, False])
    def test_sound_goes_before_the_frames_it_belongs_to(self, sound_first: bool) -> None:
        source = PushedRecording(frame_rate=10.0, sound=True)
        if sound_first:
            source.push_sound(tone(0.3), 1.7e9, RATE)
        for n in range(3):
            source.push_frame(rgb(), 1.7e9 + n / 10)
        if not sound_first:
            source.push_sound(tone(0.3), 1.7e9, RATE)
        source.finish()
        events = list(source.events())
        assert kinds(events) == "sfsfsf"
        chunks = [e for e in events if isinstance(e, AudioChunk)]
        assert [c.start_sample for c in chunks] == [0, 1600, 3200]

    def test_sound_before_the_first_frame_is_trimmed_and_gaps_stay_gaps(self) -> None:
        source = PushedRecording(frame_rate=10.0, sound=True)
        source.push_sound(tone(0.2), 0.9, RATE)
        source.push_frame(rgb(), 1.0)
        source.push_sound(tone(0.1), 1.5, RATE)
        source.push_frame(rgb(), 1.6)
        source.finish()
        chunks = [e for e in source.events() if isinstance(e, AudioChunk)]
        assert [(c.start_sample, len(c.samples)) for c in chunks] == [(0, 1600), (8000, 1600)]
        assert source.counters["audio_before_video_samples"] == 1600
        assert source.counters["audio_gaps"] == 1

    def test_sound_that_stays_away_holds_frames_up_for_so_many_only(self) -> None:
        source = PushedRecording(frame_rate=30.0, sound=True)
        for n in range(HELD_FOR_SOUND + 1):
            source.push_frame(rgb(), n / 30)
        assert isinstance(next(source.events()), VideoFrame)

    def test_a_push_waits_for_room(self) -> None:
        source = PushedRecording(frame_rate=30.0, sound=False)
        for n in range(FRAMES_WAITING):
            source.push_frame(rgb(), n / 30)
        assert not source.wait_for_room(0.02)
        pushing = threading.Thread(target=source.push_frame, args=(rgb(), FRAMES_WAITING / 30))
        pushing.start()
        time.sleep(0.05)
        assert pushing.is_alive()
        next(source.events())
        pushing.join(5)
        assert not pushing.is_alive()

    def test_closing_ends_a_push_and_the_events(self) -> None:
        source = PushedRecording(frame_rate=30.0, sound=False)
        events = source.events()
        threading.Timer(0.05, source.close).start()
        assert list(events) == []

    def test_sound_alone_is_refused_after_a_minute(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pushed, "SOUND_WAITING_S", 1.0)
        source = PushedRecording(frame_rate=30.0, sound=True)
        source.push_sound(tone(1.1), 0.0, RATE)
        with pytest.raises(UserError, match="push frames and sound side by side"):
            source.push_sound(tone(0.1), 1.1, RATE)

    def test_other_rates_are_resampled_in_their_place(self) -> None:
        source = PushedRecording(frame_rate=10.0, sound=True)
        source.push_frame(rgb(), 0.0)
        for n in range(10):
            source.push_sound(np.full(4800, 0.5, np.float32), n / 10, 48_000)
        source.finish()
        chunks = [e for e in source.events() if isinstance(e, AudioChunk)]
        assert chunks[0].start_sample == 0
        assert 15_900 < chunks[-1].end_sample <= 16_000
        assert "audio_gaps" not in source.counters

    @pytest.mark.parametrize("piece", [441, 44_100])
    def test_what_the_resampler_still_holds_comes_at_the_end(self, piece: int) -> None:
        source = PushedRecording(frame_rate=10.0, sound=True)
        source.push_frame(rgb(), 0.0)
        for begin in range(0, 44_100, piece):
            source.push_sound(np.full(piece, 0.5, np.float32), begin / 44_100, 44_100)
        source.finish()
        source.finish()
        chunks = [e for e in source.events() if isinstance(e, AudioChunk)]
        assert sum(len(c.samples) for c in chunks) == chunks[-1].end_sample == RATE

    def test_counters_are_what_they_were_when_asked_for_and_name_what_happened(self) -> None:
        source = PushedRecording(frame_rate=10.0, sound=True)
        source.push_frame(rgb(), 1.0)
        source.push_sound(tone(0.1), 1.0, RATE)
        before = source.counters
        source.push_sound(tone(0.1), 1.5, RATE)
        assert before == {}
        assert source.counters == {"audio_gaps": 1}

    def test_large_pictures_become_no_larger_than_faces_need(self) -> None:
        source = PushedRecording(frame_rate=10.0, sound=False)
        source.push_frame(np.zeros((1080, 1920, 3), np.uint8), 0.0)
        frame = next(source.events())
        assert isinstance(frame, VideoFrame)
        assert frame.rgb.shape == (540, 960, 3)


class TestLive:
    def test_ticks_are_steady_whatever_the_pushes(self) -> None:
        source = PushedLive(tick_rate=30.0, sound=True)

        def push() -> None:
            for n in range(6):
                source.push_frame(rgb(n), 100.0 + n / 10)
                source.push_sound(tone(0.1), 100.0 + n / 10, RATE)
                time.sleep(0.1)
            source.finish()

        pushing = threading.Thread(target=push)
        pushing.start()
        events = list(source.events())
        pushing.join()
        frames = [e for e in events if isinstance(e, VideoFrame)]
        assert len(frames) > 10
        assert any(f.repeated for f in frames)
        assert all(np.isclose(f.time_s * 30, round(f.time_s * 30)) for f in frames)
        assert sum(len(e.samples) for e in events if isinstance(e, AudioChunk)) > 0.3 * RATE
        changes = [e for e in events if isinstance(e, InputChange)]
        assert [c.status.health for c in changes if c.name == "camera"] == ["waiting", "ok", "ended"]
        assert not any(isinstance(e, NoPicture) for e in events[-1:])

    def test_it_ends_where_nothing_was_ever_pushed(self) -> None:
        source = PushedLive(tick_rate=30.0, sound=False)
        threading.Timer(0.05, source.close).start()
        assert not [e for e in source.events() if isinstance(e, VideoFrame)]
        other = PushedLive(tick_rate=30.0, sound=False)
        other.finish()
        assert not [e for e in other.events() if isinstance(e, VideoFrame)]

    def test_it_ends_with_what_was_pushed(self) -> None:
        source = PushedLive(tick_rate=30.0, sound=False)
        source.push_frame(rgb(7), 0.0)
        source.finish()
        began_s = time.monotonic()
        frames = [e for e in source.events() if isinstance(e, VideoFrame)]
        assert [int(f.rgb[0, 0, 0]) for f in frames] == [7]
        assert time.monotonic() - began_s < 0.4

    def test_pictures_beyond_the_tick_are_surplus(self) -> None:
        source = PushedLive(tick_rate=30.0, sound=False)
        for n in range(50):
            source.push_frame(rgb(n), n / 30)
        assert source.counters["camera_surplus"] > 40
