"""Laws of the time axis: whatever timestamps say, times increase and sound never overlaps."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.sources.file_clock import FrameClock, SoundClock, same_rate, step_frame_clock, step_sound_clock

STAMP = st.one_of(st.none(), st.floats(-100, 100))
RATE = 44_100


@given(st.lists(STAMP, min_size=1), st.floats(0.001, 1), st.one_of(st.none(), st.floats(1, 200)))
def test_frames_always_advance(stamps: list[float | None], step_s: float, latest_s: float | None) -> None:
    clock, times = FrameClock(), []
    for stamp in stamps:
        clock, placed = step_frame_clock(clock, stamp, step_s, latest_s)
        times.append(placed.time_s)
    assert all(b > a for a, b in pairwise(times))


@given(st.lists(st.floats(0.001, 50), min_size=1), st.floats(0, 5))
def test_good_timestamps_are_kept_as_they_are(steps: list[float], start_s: float) -> None:
    clock, stamp = FrameClock(), start_s
    for step in steps:
        clock, placed = step_frame_clock(clock, stamp, 1 / 30)
        assert placed.time_s == stamp
        assert placed.mended is None
        stamp += step


def test_a_jump_back_shifts_all_that_follows() -> None:
    clock, times, mended = FrameClock(), [], []
    for stamp in (0.0, 5.0, 10.0, 0.0, 0.1, 5.0):
        clock, placed = step_frame_clock(clock, stamp, 0.5)
        times.append(placed.time_s)
        mended.append(placed.mended)
    assert times == pytest.approx([0, 5, 10, 10.5, 10.6, 15.5])
    assert mended == [None, None, None, "video_jumps_back", None, None]


def test_one_absurd_timestamp_does_not_carry_the_rest_away() -> None:
    clock, times = FrameClock(), []
    for stamp in (0.0, 0.1, 95_443.7, 0.3, 0.4):
        clock, placed = step_frame_clock(clock, stamp, 0.1, latest_s=40.0)
        times.append(placed.time_s)
    assert times == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


@given(
    st.lists(
        st.tuples(STAMP, st.integers(1, 4096), st.sampled_from([8_000, 16_000, RATE, 48_000])), min_size=1
    )
)
def test_sound_never_overlaps_and_never_goes_back(pieces: list[tuple[float | None, int, int]]) -> None:
    clock, end_s = SoundClock(), float("-inf")
    for stamp, samples, rate in pieces:
        before_s = clock.end_s
        clock, placed = step_sound_clock(clock, stamp, samples, rate)
        start_s = before_s if placed.new_run_s is None else placed.new_run_s
        assert start_s >= end_s - 1e-9
        assert 0 <= placed.skip <= samples
        assert clock.end_s == pytest.approx(start_s + (samples - placed.skip) / rate)
        end_s = clock.end_s


@given(st.lists(st.floats(-0.0115, 0.0115), min_size=2, max_size=200), st.floats(-1, 10))
def test_jitter_within_the_tolerance_leaves_no_seam(jitter: list[float], start_s: float) -> None:
    """Half of a 1024-sample frame is 11.6 ms; errors about the true time never add up."""
    clock = SoundClock()
    for index, error in enumerate([0.0, *jitter]):
        clock, placed = step_sound_clock(clock, start_s + index * 1024 / RATE + error, 1024, RATE)
        assert (placed.new_run_s is None) == (index > 0)
        assert placed.mended is None


def test_a_clock_that_runs_fast_is_followed_in_small_steps() -> None:
    """Timestamps say 1000 ppm more than the samples: over 100 s the axis follows the timestamps."""
    clock = SoundClock()
    for index in range(4307):
        stamp = index * 1024 / RATE * 1.001
        clock, _ = step_sound_clock(clock, stamp, 1024, RATE)
        assert abs(clock.end_s - stamp - 1024 / RATE) < 0.012


def test_sound_that_jumps_back_goes_on_with_the_same_shift() -> None:
    clock, kinds = SoundClock(), []
    for stamp in (0.0, 1.0, 2.0, 0.0, 1.0, 3.0):
        clock, placed = step_sound_clock(clock, stamp, RATE, RATE)
        kinds.append(placed.mended)
    assert kinds == [None, None, None, "audio_jumps_back", None, "audio_gaps"]
    assert clock.end_s == pytest.approx(7.0)


@pytest.mark.parametrize(
    ("a", "b", "same"), [(30, 29.97, True), (24, 23.976, True), (25, 30, False), (24, 25, False)]
)
def test_a_rate_is_the_same_within_a_clocks_inaccuracy(a: float, b: float, same: bool) -> None:
    assert same_rate(a, b) == same_rate(b, a) == same
