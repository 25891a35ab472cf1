"""Clocks of live inputs, without I/O: device timestamps mapped to one steady axis, and sound laid along it.

A device stamps what it captures by a clock of its own, which starts anywhere, drifts by tens of parts per
million and sometimes jumps; what it captured arrives later than that by a delay that varies but is never
negative. So the smallest (arrival - stamp) seen in a while is the best estimate of the difference between the
clocks, and the slope of those minima is the drift.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

# Minima are taken over blocks of this length; this many blocks give the drift.
BLOCK_S: Final = 5.0
BLOCKS: Final = 12

# The fastest slow correction: well above what crystals drift, too slow to be seen or heard.
SLEW_PPM: Final = 500.0

# A stamp that goes back, or claims to come from the future, by more than this is a jump of the device's
# clock.
JUMP_S: Final = 0.5

# A whole block arriving later than the mapping says by this much: the device's clock stood still meanwhile.
STEP_S: Final = 0.25


@dataclass(frozen=True)
class ClockMap:
    """State of `step_clock_map`: arrival-clock time = stamp + `offset_s`."""

    offset_s: float | None = None
    last_stamp_s: float = 0.0
    last_arrival_s: float = 0.0
    last_mapped_s: float = float("-inf")
    block_start_s: float = 0.0
    block_least_s: float = float("inf")
    minima: tuple[tuple[float, float], ...] = ()
    jumps: int = 0
    steps: int = 0

    @property
    def drift_ppm(self) -> float | None:
        """By how much the device's clock is slow against the arrival clock, parts per million; None before
        three blocks: a least-squares line through the blocks' minima.
        """
        if len(self.minima) < 3:
            return None
        mean_x = sum(x for x, _ in self.minima) / len(self.minima)
        mean_y = sum(y for _, y in self.minima) / len(self.minima)
        spread = sum((x - mean_x) ** 2 for x, _ in self.minima)
        return 1e6 * sum((x - mean_x) * (y - mean_y) for x, y in self.minima) / spread


def start_clock(wall_minus_arrival_s: float, first_stamp_s: float | None, arrival_s: float) -> ClockMap:
    """The map at a connection's first stamp.

    Devices that stamp by the wall clock (ALSA, v4l2) are known by a stamp close to it; then the difference
    between the clocks is known at once, and what had piled up before the first read keeps its true times.
    """
    if first_stamp_s is not None and abs(first_stamp_s - wall_minus_arrival_s - arrival_s) < 5.0:
        return ClockMap(-wall_minus_arrival_s, first_stamp_s, arrival_s, block_start_s=arrival_s)
    return ClockMap()


def step_clock_map(clock: ClockMap, stamp_s: float | None, arrival_s: float) -> tuple[ClockMap, float]:
    """When on the arrival clock something was captured that is stamped `stamp_s` and arrived at `arrival_s`.

    Never after its arrival, never before what was mapped earlier. No stamp: its arrival. `arrival_s` must not
    go back.
    """
    if stamp_s is None:
        mapped_s = max(arrival_s, clock.last_mapped_s)
        return replace(clock, last_mapped_s=mapped_s), mapped_s
    delay_s = arrival_s - stamp_s
    if clock.offset_s is None:
        fresh = ClockMap(delay_s, stamp_s, arrival_s, block_start_s=arrival_s, block_least_s=delay_s)
        mapped_s = max(arrival_s, clock.last_mapped_s)
        return replace(fresh, last_mapped_s=mapped_s), mapped_s
    back_s = clock.last_stamp_s - stamp_s
    ahead_s = clock.offset_s - delay_s
    if back_s > JUMP_S or (ahead_s > JUMP_S and -back_s > JUMP_S + arrival_s - clock.last_arrival_s):
        return _restart_clock(replace(clock, jumps=clock.jumps + 1), stamp_s, arrival_s)

    least_s = min(clock.block_least_s, delay_s)
    if arrival_s - clock.block_start_s >= BLOCK_S:
        if least_s - clock.offset_s > STEP_S:
            return _restart_clock(replace(clock, steps=clock.steps + 1), stamp_s, arrival_s)
        minima = (*clock.minima, (clock.block_start_s + BLOCK_S / 2, least_s))[-BLOCKS:]
        clock = replace(clock, minima=minima, block_start_s=arrival_s, block_least_s=delay_s)
    else:
        clock = replace(clock, block_least_s=least_s)

    assert clock.offset_s is not None
    # Up slowly towards the last blocks' minimum, down at once: nothing is captured after it arrived.
    target_s = min((y for _, y in clock.minima[-2:]), default=clock.offset_s)
    slew_s = SLEW_PPM * 1e-6 * max(0.0, arrival_s - clock.last_arrival_s)
    offset_s = min(max(clock.offset_s, min(target_s, clock.offset_s + slew_s)), delay_s)
    mapped_s = max(stamp_s + offset_s, clock.last_mapped_s)
    return replace(
        clock,
        offset_s=offset_s,
        last_stamp_s=max(stamp_s, clock.last_stamp_s),
        last_arrival_s=arrival_s,
        last_mapped_s=mapped_s,
    ), mapped_s


def _restart_clock(clock: ClockMap, stamp_s: float, arrival_s: float) -> tuple[ClockMap, float]:
    """A new difference from here on; the drift so far says nothing about it."""
    mapped_s = max(arrival_s, clock.last_mapped_s)
    return ClockMap(
        offset_s=arrival_s - stamp_s,
        last_stamp_s=stamp_s,
        last_arrival_s=arrival_s,
        last_mapped_s=mapped_s,
        block_start_s=arrival_s,
        block_least_s=arrival_s - stamp_s,
        jumps=clock.jumps,
        steps=clock.steps,
    ), mapped_s


SEAM_S: Final = 0.040
"""Live sound this far off the axis is moved, with a gap or a trim; nearer, it is followed by a sample a piece."""

DEAD_BAND_S: Final = 0.004
"""Live sound no further off the axis than this is left as it is."""

LEAST_STRETCHED: Final = 64
"""Samples that a piece must have to be made a sample longer or shorter."""


@dataclass(frozen=True)
class Fit:
    """How a piece of live sound is laid on the axis: `start` sample, `skip` samples left out at its front,
    then `stretch` samples more (1) or fewer (-1); `gap` samples of nothing lie before it.
    """

    start: int
    skip: int = 0
    stretch: int = 0
    gap: int = 0


def fit_sound(next_sample: int | None, due: float, samples: int, rate: int) -> Fit:
    """Lays a piece of `samples` at `rate`, due at sample `due` by its timestamp, after `next_sample` (None:
    the first).

    Clocks that drift are followed by one sample a piece; a piece more than `SEAM_S` late leaves a gap, one as
    much early is trimmed. Nothing is laid before sample 0.
    """
    if next_sample is None:
        start = round(due)
        skip = min(samples, max(0, -start))
        return Fit(start + skip, skip)
    late = due - next_sample
    if late > SEAM_S * rate:
        return Fit(round(due), gap=round(late))
    if late < -SEAM_S * rate:
        return Fit(next_sample, skip=min(samples, round(-late)))
    if abs(late) > DEAD_BAND_S * rate and samples >= LEAST_STRETCHED:
        return Fit(next_sample, stretch=1 if late > 0 else -1)
    return Fit(next_sample)


def newest_at(times: list[float], tick_s: float) -> int | None:
    """The index of the newest of these increasing times at or before the tick; None where there is none."""
    assert all(b >= a for a, b in pairwise(times))
    return next((i for i in reversed(range(len(times))) if times[i] <= tick_s), None)
