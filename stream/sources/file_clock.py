"""Clocks of recordings, without I/O: where frames and samples belong on a recording's one time axis."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

# A timestamp this far behind what came before is a new run of the clock (a joined recording, a restarted
# encoder), not a late packet.
JUMP_BACK_S: Final = 1.0

# Sound whose timestamp agrees with the samples counted so far within half a codec frame, kept between these
# bounds, follows on without a seam: containers round timestamps (FLV and Matroska to 1 ms).
LEAST_TOLERANCE_S: Final = 0.005
MOST_TOLERANCE_S: Final = 0.025

_SAME_RATE: Final = 0.02


def same_rate(a: float, b: float) -> bool:
    """Whether two rates, in frames per second, differ by no more than a clock's inaccuracy or NTSC's thousandth."""
    return abs(a - b) <= _SAME_RATE * max(a, b)


@dataclass(frozen=True)
class FrameClock:
    """State of `step_frame_clock`: the last frame's time, and the shift added since the clock last jumped back."""

    last_s: float | None = None
    shift_s: float = 0.0


@dataclass(frozen=True)
class PlacedFrame:
    """A frame's time in seconds, and what had to be mended (None, or the counter's name)."""

    time_s: float
    mended: str | None = None


def step_frame_clock(
    clock: FrameClock, time_s: float | None, step_s: float, latest_s: float | None = None
) -> tuple[FrameClock, PlacedFrame]:
    """Puts a frame after the last one.

    A time that is missing, not after the last frame's, or beyond `latest_s` (where the recording says it has
    ended) is replaced by the last plus `step_s`; one that jumped back by more than a second starts a new run
    of the clock, and later times follow it by the same shift. All times in seconds; `step_s` > 0.
    """
    if clock.last_s is None:
        first = 0.0 if time_s is None else time_s
        return replace(clock, last_s=first), PlacedFrame(
            first, "video_pts_missing" if time_s is None else None
        )
    following = clock.last_s + step_s
    if time_s is None:
        return replace(clock, last_s=following), PlacedFrame(following, "video_pts_missing")
    shifted = time_s + clock.shift_s
    if shifted < clock.last_s - JUMP_BACK_S:
        return FrameClock(following, following - time_s), PlacedFrame(following, "video_jumps_back")
    if shifted <= clock.last_s or (latest_s is not None and shifted > latest_s):
        return replace(clock, last_s=following), PlacedFrame(following, "video_pts_mended")
    return replace(clock, last_s=shifted), PlacedFrame(shifted)


@dataclass(frozen=True)
class SoundClock:
    """State of `step_sound_clock`: a run of contiguous sound that began at `start_s` (None: none yet) and has
    `samples` at `rate` so far, and the shift added since the clock last jumped back.
    """

    start_s: float | None = None
    samples: int = 0
    rate: int = 1
    shift_s: float = 0.0

    @property
    def end_s(self) -> float:
        """Where the sound so far ends."""
        return (self.start_s or 0.0) + self.samples / self.rate


@dataclass(frozen=True)
class PlacedSound:
    """Where a piece of sound goes.

    `new_run_s`: it starts a new run there (seconds), else it follows on; `skip`: samples to leave out at its
    front; `mended`: the counter's name for what happened, or None.
    """

    new_run_s: float | None = None
    skip: int = 0
    mended: str | None = None


def step_sound_clock(
    clock: SoundClock, time_s: float | None, samples: int, rate: int, latest_s: float | None = None
) -> tuple[SoundClock, PlacedSound]:
    """Puts a piece of sound (`samples` at `rate` per second, stamped `time_s`) after what came before.

    Within the tolerance it follows on; later than that leaves a gap and starts a new run at its own time;
    earlier is trimmed at the front; a jump back by more than a second, a missing time, or one beyond
    `latest_s` follows on (after a jump later times keep the same shift).
    """
    if clock.start_s is None:
        start_s = 0.0 if time_s is None else time_s
        return SoundClock(start_s, samples, rate), PlacedSound(
            new_run_s=start_s, mended="audio_pts_missing" if time_s is None else None
        )
    if rate != clock.rate:
        clock = SoundClock(clock.end_s, 0, rate, clock.shift_s)
    followed = replace(clock, samples=clock.samples + samples)
    if time_s is None:
        return followed, PlacedSound(mended="audio_pts_missing")
    stamped_s = time_s + clock.shift_s
    late_s = stamped_s - clock.end_s
    tolerance_s = min(max(0.5 * samples / rate, LEAST_TOLERANCE_S), MOST_TOLERANCE_S)
    if abs(late_s) <= tolerance_s:
        return followed, PlacedSound()
    if late_s < -JUMP_BACK_S:
        return replace(followed, shift_s=clock.end_s - time_s), PlacedSound(mended="audio_jumps_back")
    if late_s < 0:
        skip = min(samples, round(-late_s * rate))
        kept = replace(clock, samples=clock.samples + samples - skip)
        return kept, PlacedSound(skip=skip, mended="audio_overlaps")
    if latest_s is not None and stamped_s > latest_s:
        return followed, PlacedSound(mended="audio_pts_mended")
    return SoundClock(stamped_s, samples, rate, clock.shift_s), PlacedSound(
        new_run_s=stamped_s, mended="audio_gaps"
    )
