"""The events of any source: frames, sound and changes of health on one time axis.

Zero is the source's first video frame. A frame's `time_s` is its presentation time; sound is placed by its
own timestamps on the sample axis (sample n is at n / 16 000 s), so it may start late, have gaps and end
early, but it never overlaps and never comes before sample 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol

from models.spec import LogMelSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from stream.messages import InputStatus

SAMPLE_RATE: Final = LogMelSpec().sample_rate
"""Samples a second of all sound after a source: 16 000, as the recogniser and the sound branch take it."""

InputName = Literal["camera", "microphone"]


@dataclass(frozen=True, eq=False)
class VideoFrame:
    """One picture.

    `index` counts frames from 0 without gaps; `time_s` is media time in seconds, strictly increasing from 0;
    `captured_at` the wall-clock time (seconds since the epoch) at which it was captured or, from a file,
    decoded; `rgb` uint8 (height, width, 3). `repeated` says that a live source had no newer picture at this
    tick, so `rgb` is the previous frame's.
    """

    index: int
    time_s: float
    captured_at: float
    rgb: NDArray[np.uint8]
    repeated: bool = False


@dataclass(frozen=True, eq=False)
class AudioChunk:
    """Sound from `start_sample` on: float32 (n,), mono, 16 kHz, in [-1, 1]; n > 0.

    Chunks come in order and never overlap; where the next one starts later than the last ended there was no
    sound, which is for the consumer to treat as silence.
    """

    start_sample: int
    samples: NDArray[np.float32]

    @property
    def end_sample(self) -> int:
        """One past the last sample."""
        return self.start_sample + len(self.samples)


@dataclass(frozen=True)
class InputChange:
    """A live input's health changed: `status` holds from here on."""

    name: InputName
    status: InputStatus


@dataclass(frozen=True)
class NoPicture:
    """A live source's tick while its camera is away: counted in `index` like a frame, with nothing to see.

    `time_s` is the tick's media time, `at` its wall-clock time in seconds since the epoch.
    """

    index: int
    time_s: float
    at: float


SourceEvent = VideoFrame | AudioChunk | NoPicture | InputChange


@dataclass(frozen=True)
class SourceInfo:
    """What a source is.

    `width` and `height` are the picture's as yielded (turned upright, scaled where asked); `frame_rate` is
    the average in frames per second; `duration_s` and `frames_hint` are what the container claims, None where
    it claims nothing (live sources, some containers): estimates, never used to place anything.
    """

    name: str
    width: int
    height: int
    frame_rate: float
    duration_s: float | None
    video_codec: str
    audio_codec: str | None
    has_audio: bool
    frames_hint: int | None


class Source(Protocol):
    """A file, or live inputs, as one stream of events."""

    @property
    def info(self) -> SourceInfo:
        """What it is."""
        ...

    @property
    def live(self) -> bool:
        """True where events come when they happen and those not taken in time are dropped."""
        ...

    @property
    def counters(self) -> Mapping[str, int]:
        """Everything skipped, repaired or dropped so far, by cause."""
        ...

    @property
    def measures(self) -> Mapping[str, float]:
        """What is measured about it (clock drift in parts per million); empty for files."""
        ...

    @property
    def inputs(self) -> Mapping[str, InputStatus]:
        """The health of `camera` and `microphone` (a file's picture and sound go by the same names)."""
        ...

    def events(self) -> Iterator[SourceEvent]:
        """Frames, sound and changes of health merged by time: when a frame is yielded, all sound up to its
        time that exists has been. Blocks; closing the iterator closes what it opened.
        """
        ...

    def close(self) -> None:
        """Ends a running `events()` soon, from any thread; it then closes what it opened. May be repeated."""
        ...
