"""How the engine is doing, in numbers: latency percentiles, frame rate, memory.

Pure: the clock is given. One thread at a time.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

import numpy as np
import psutil

from stream.messages import Latency

Clock = Callable[[], float]
LATENCY_FRAMES: Final = 900
RATE_WINDOW_S: Final = 5.0


class LatencyWindow:
    """Percentiles of the last `frames` latencies (half a minute at 30 a second)."""

    def __init__(self, frames: int = LATENCY_FRAMES) -> None:
        if frames < 1:
            raise ValueError(f"a latency window needs at least one frame, not {frames}")
        self._ring = np.zeros(frames, dtype=np.float64)
        self._seen = 0

    def add(self, latency_ms: float) -> None:
        """Adds one frame's latency in milliseconds."""
        self._ring[self._seen % len(self._ring)] = latency_ms
        self._seen += 1

    def percentiles(self) -> Latency:
        """The nearest-rank percentiles: each is a latency that a frame really had. All None before the first."""
        if not self._seen:
            return Latency()
        p50, p95, p99 = np.percentile(self._ring[: self._seen], (50, 95, 99), method="inverted_cdf")
        return Latency(round(float(p50), 3), round(float(p95), 3), round(float(p99), 3))


class RateMeter:
    """Events a second over the last `window_s` seconds of the given clock."""

    def __init__(self, clock: Clock = time.monotonic, window_s: float = RATE_WINDOW_S) -> None:
        if window_s <= 0:
            raise ValueError(f"a rate needs a window above 0 s, not {window_s}")
        self._clock = clock
        self._window_s = window_s
        self._slots: deque[tuple[float, int]] = deque()
        self._started_at: float | None = None

    def add(self, events: int = 1) -> None:
        """Counts events that happened now."""
        at = self._clock()
        if self._started_at is None:
            self._started_at = at
        # Events of one hundredth of the window share a slot, so that the meter is bounded at any rate.
        if self._slots and at - self._slots[-1][0] < self._window_s / 100:
            first, count = self._slots[-1]
            self._slots[-1] = (first, count + events)
        else:
            self._slots.append((at, events))
        self._drop_old_slots(at)

    def rate(self) -> float:
        """Events a second; over the time since the first event where that is shorter than the window."""
        at = self._clock()
        self._drop_old_slots(at)
        if self._started_at is None or not self._slots:
            return 0.0
        elapsed = min(self._window_s, at - self._started_at)
        return sum(count for _, count in self._slots) / elapsed if elapsed > 0 else 0.0

    def _drop_old_slots(self, at: float) -> None:
        while self._slots and self._slots[0][0] <= at - self._window_s:
            self._slots.popleft()


class Telemetry:
    """Latency and frame rate over the last frames."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._latency = LatencyWindow()
        self._rate = RateMeter(clock)

    def frame(self, latency_ms: float | None) -> None:
        """A frame was estimated, `latency_ms` after its capture (None where that has no meaning)."""
        self._rate.add()
        if latency_ms is not None:
            self._latency.add(latency_ms)

    def latency(self) -> Latency:
        """Percentiles over the last frames."""
        return self._latency.percentiles()

    def frame_rate(self) -> float:
        """Estimates a second over the last seconds."""
        return self._rate.rate()


def resident_mib() -> float:
    """The memory that this process holds, in MiB."""
    resident_bytes: int = psutil.Process().memory_info().rss
    return round(resident_bytes / 2**20, 1)
