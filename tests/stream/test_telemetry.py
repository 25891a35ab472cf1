"""The engine's numbers: percentiles, rates, memory."""

from __future__ import annotations

import math
import mmap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.messages import Latency
from stream.telemetry import LatencyWindow, RateMeter, Telemetry, resident_mib


class Clock:
    """A clock that goes when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@settings(deadline=None)
@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=200), st.integers(1, 50))
def test_percentiles_are_those_of_the_last_frames_by_nearest_rank(
    latencies: list[float], frames: int
) -> None:
    window = LatencyWindow(frames)
    for latency_ms in latencies:
        window.add(latency_ms)
    last = sorted(latencies[-frames:])
    found = window.percentiles()
    for percent, value in ((50, found.p50), (95, found.p95), (99, found.p99)):
        rank = max(1, math.ceil(round(percent * len(last) / 100, 9)))
        assert value == pytest.approx(last[rank - 1], abs=1e-3)


def test_before_the_first_frame_there_is_no_latency() -> None:
    assert LatencyWindow().percentiles() == Latency(None, None, None)
    telemetry = Telemetry(Clock())
    telemetry.frame(None)
    assert telemetry.latency() == Latency(None, None, None)


@settings(deadline=None)
@given(rate=st.floats(1, 500), seconds=st.floats(6, 30))
def test_a_steady_rate_is_measured(rate: float, seconds: float) -> None:
    clock = Clock()
    meter = RateMeter(clock)
    for _ in range(int(rate * seconds)):
        meter.add()
        clock.now += 1 / rate
    assert meter.rate() == pytest.approx(rate, rel=0.03, abs=0.25)


def test_a_rate_begins_at_once_and_ends_with_its_window() -> None:
    clock = Clock()
    meter = RateMeter(clock, window_s=5)
    assert meter.rate() == 0.0
    meter.add()
    assert meter.rate() == 0.0
    for _ in range(30):
        clock.now += 1 / 30
        meter.add()
    assert meter.rate() == pytest.approx(31, rel=0.05)
    clock.now += 5.1
    assert meter.rate() == 0.0


def test_a_meter_is_bounded_at_any_rate() -> None:
    clock = Clock()
    meter = RateMeter(clock)
    for _ in range(20_000):
        meter.add()
        clock.now += 1e-3
    assert len(meter._slots) <= 102
    assert meter.rate() == pytest.approx(1000, rel=0.03)


def test_resident_memory_is_what_the_system_says() -> None:
    before = resident_mib()
    # Straight from the system: an allocator may serve what it holds already.
    with mmap.mmap(-1, 64 * 2**20) as held:
        for page in range(0, len(held), mmap.PAGESIZE):
            held[page] = 1
        assert 40 < resident_mib() - before < 200
