"""Laws of live clocks: drift is measured, jumps are survived, nothing goes back or comes from the future."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.sources.device_clock import ClockMap, fit_sound, newest_at, start_clock, step_clock_map

STAMPS = st.lists(
    st.tuples(st.one_of(st.none(), st.floats(-1e6, 1e6)), st.floats(0, 30)), min_size=1, max_size=60
)


@given(STAMPS)
def test_whatever_the_stamps_say_captures_advance_and_precede_their_arrival(
    stamps: list[tuple[float | None, float]],
) -> None:
    clock, arrival_s, mapped = ClockMap(), 0.0, []
    for stamp_s, wait_s in stamps:
        arrival_s += wait_s
        clock, mapped_s = step_clock_map(clock, stamp_s, arrival_s)
        assert mapped_s <= arrival_s + 1e-6
        mapped.append(mapped_s)
    assert all(b >= a for a, b in pairwise(mapped))


@settings(max_examples=25)
@given(
    drift_ppm=st.floats(-300, 300),
    start_s=st.floats(-1000, 1e6),
    jitter_s=st.floats(0, 0.03),
    seed=st.integers(0, 1000),
)
def test_drift_is_measured_and_followed(drift_ppm: float, start_s: float, jitter_s: float, seed: int) -> None:
    """Ten minutes at 10 pictures a second: within 2 ms of the truth plus the least delay, drift within 60
    ppm.
    """
    draw, clock = random.Random(seed), ClockMap()
    for index in range(6000):
        true_s = index / 10
        arrival_s = true_s + 0.005 + draw.random() * jitter_s
        clock, mapped_s = step_clock_map(clock, start_s + true_s / (1 + drift_ppm * 1e-6), arrival_s)
        if index > 300:
            assert abs(mapped_s - true_s - 0.005) < 0.002 + jitter_s / 10 + abs(drift_ppm) * 1e-6 * 12
    assert clock.drift_ppm == pytest.approx(drift_ppm, abs=60)
    assert clock.jumps == clock.steps == 0


@pytest.mark.parametrize("jump_s", [-3600.0, -2.0, 2.0, 86_400.0])
def test_a_jump_of_the_device_clock_does_not_move_the_axis(jump_s: float) -> None:
    clock = ClockMap()
    for index in range(600):
        true_s = index / 30
        clock, mapped_s = step_clock_map(clock, 7.0 + true_s + (jump_s if index >= 300 else 0.0), true_s)
        assert mapped_s == pytest.approx(true_s, abs=0.001)
    assert clock.jumps == 1


def test_a_stall_of_the_network_is_late_arrival_not_a_new_clock() -> None:
    clock, mapped = ClockMap(), []
    for index in range(300):
        true_s = index / 30
        clock, mapped_s = step_clock_map(clock, true_s, max(true_s, 6.0) if 3 <= true_s < 6 else true_s)
        mapped.append(mapped_s)
    assert mapped == pytest.approx([i / 30 for i in range(300)], abs=0.001)
    assert clock.jumps == clock.steps == 0


def test_a_device_whose_clock_stood_still_is_followed_after_one_block() -> None:
    clock, mapped_s, true_s = ClockMap(), 0.0, 0.0
    for index in range(900):
        true_s = index / 30 + (3.0 if index >= 300 else 0.0)
        clock, mapped_s = step_clock_map(clock, index / 30, true_s)
    assert clock.steps == 1
    assert mapped_s == pytest.approx(true_s, abs=0.01)


def test_a_device_on_the_wall_clock_keeps_its_true_times_through_a_backlog() -> None:
    wall_minus_arrival_s = 1.7e9
    arrival_s = 100.0
    clock = start_clock(wall_minus_arrival_s, 1.7e9 + 99.6, arrival_s)
    for index in range(50):
        clock, mapped_s = step_clock_map(clock, 1.7e9 + 99.6 + index * 0.008, arrival_s)
        assert mapped_s == pytest.approx(99.6 + index * 0.008, abs=1e-5)


@given(
    st.lists(st.tuples(st.floats(-0.2, 0.2), st.integers(1, 2000)), min_size=1, max_size=100),
    st.integers(-5000, 5000),
)
def test_live_sound_never_overlaps(pieces: list[tuple[float, int]], first: int) -> None:
    end: int | None = None
    for off_s, samples in pieces:
        due = (first if end is None else end) + off_s * 16_000
        fit = fit_sound(end, due, samples, 16_000)
        kept = samples - fit.skip + fit.stretch
        assert 0 <= fit.skip <= samples
        assert fit.start >= (0 if end is None and kept else (end or fit.start))
        assert kept >= 0
        end = fit.start + kept


@settings(max_examples=25)
@given(st.floats(-400, 400))
def test_drifting_sound_is_followed_without_a_seam(drift_ppm: float) -> None:
    """Pieces of 10 ms for ten minutes: never a gap or a trim, never more than 5 ms off."""
    end: int | None = None
    for index in range(60_000):
        due = index * 160 * (1 + drift_ppm * 1e-6)
        fit = fit_sound(end, due, 160, 16_000)
        assert fit.gap == fit.skip == 0
        end = fit.start + 160 + fit.stretch
        assert abs(fit.start - due) < 0.005 * 16_000


def test_the_newest_at_or_before_the_tick() -> None:
    assert newest_at([0.0, 0.03, 0.07], 0.05) == 1
    assert newest_at([0.0, 0.03, 0.07], 0.07) == 2
    assert newest_at([0.1], 0.05) is None
    assert newest_at([], 1.0) is None
