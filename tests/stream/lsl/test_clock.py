"""Stamps on LSL's clock, whatever happens to the wall clock meanwhile."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.lsl.clock import CaptureClock, clock_offset
from tests.stream.brokers import estimate

if TYPE_CHECKING:
    from stream.messages import Estimate

TICK = 1 / 30
EPOCH = 1_700_000_000.0


class Machine:
    """A clock that nobody sets, and one on the wall that is `ahead` of it."""

    def __init__(self) -> None:
        self.now = 500.0
        self.ahead = EPOCH - 500.0

    def lsl(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now + self.ahead

    def captured(self, frame: int, *, settled: bool = False) -> Estimate:
        return replace(estimate(frame, settled=settled), captured_at=self.wall())


def test_an_offset_is_that_of_readings_close_together() -> None:
    lsl_times = iter([0.0, 1.0, 2.0, 2.000001])
    wall_times = iter([1000.7, 1002.0000005])
    offset = clock_offset(lambda: next(lsl_times), lambda: next(wall_times))
    assert offset == pytest.approx(-1000, abs=1e-6)


def test_a_frame_is_stamped_with_its_capture_and_settles_with_the_same_stamp() -> None:
    machine = Machine()
    clock = CaptureClock(machine.lsl, machine.wall)
    stamps = []
    for frame in range(300):
        taken, at = machine.captured(frame), machine.now
        machine.now += 0.05
        stamps.append(clock.stamp(taken))
        assert stamps[-1] == pytest.approx(at, abs=1e-6)
        machine.now += TICK - 0.05
    machine.ahead += 3600
    for frame in range(300):
        assert clock.stamp(machine.captured(frame, settled=True)) == stamps[frame]


@given(
    step_s=st.one_of(st.floats(0.6, 1e6), st.floats(-1e6, -0.6)),
    at_frame=st.integers(5, 60),
    delay_frames=st.integers(0, 8),
    jitter=st.lists(st.floats(-0.01, 0.01), min_size=100, max_size=100),
)
def test_a_wall_clock_that_is_set_moves_no_stamp(
    step_s: float, at_frame: int, delay_frames: int, jitter: list[float]
) -> None:
    machine = Machine()
    clock = CaptureClock(machine.lsl, machine.wall)
    on_their_way: list[tuple[Estimate, float]] = []
    for frame in range(100):
        machine.now = 500.0 + frame * TICK + jitter[frame]
        if frame == at_frame:
            machine.ahead += step_s
        on_their_way.append((machine.captured(frame), machine.now))
        if len(on_their_way) > delay_frames:
            taken, at = on_their_way.pop(0)
            assert clock.stamp(taken) == pytest.approx(at, abs=2e-6)


def test_a_recording_whose_times_follow_the_clock_as_it_was_goes_on() -> None:
    machine = Machine()
    clock = CaptureClock(machine.lsl, machine.wall)
    ahead = machine.ahead
    for frame in range(3000):
        machine.now = 500.0 + frame * TICK
        if frame == 100:
            machine.ahead += 7200
        taken = replace(estimate(frame), captured_at=machine.now + ahead)
        assert clock.stamp(taken) == pytest.approx(machine.now, abs=2e-6)


def test_a_clock_that_drifts_is_followed() -> None:
    machine = Machine()
    clock = CaptureClock(machine.lsl, machine.wall)
    for frame in range(20_000):
        machine.now = 500.0 + frame * TICK
        machine.ahead += 500e-6 * TICK
        assert clock.stamp(machine.captured(frame)) == pytest.approx(machine.now, abs=2e-6)


def test_a_repeated_picture_does_not_go_back() -> None:
    machine = Machine()
    clock = CaptureClock(machine.lsl, machine.wall)
    first = machine.captured(0)
    again = replace(first, frame=1, time_s=TICK, captured_at=first.captured_at - 2e-6)
    assert clock.stamp(again) >= 0
    assert clock.stamp(first) <= clock.stamp(replace(again, frame=2, time_s=2 * TICK))


def test_what_is_remembered_is_bounded() -> None:
    machine = Machine()
    clock = CaptureClock(machine.lsl, machine.wall)
    for frame in range(10_000):
        machine.now = 500.0 + frame * TICK
        if frame % 7 == 0:
            machine.ahead += 2.0
        clock.stamp(machine.captured(frame))
    assert len(clock._stamps) <= 2048
    assert len(clock._offsets) <= 8
