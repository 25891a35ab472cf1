"""Sources that are pushed: a program gives frames and sound, live or as a recording of its own."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame as Picture

from models.errors import UserError
from stream.messages import InputStatus
from stream.sources.captures import CapturedPicture, CapturedSound, LiveCaptures
from stream.sources.device_clock import ClockMap, fit_sound, start_clock, step_clock_map
from stream.sources.events import SAMPLE_RATE, AudioChunk, Source, SourceEvent, SourceInfo, VideoFrame
from stream.sources.resample import LiveSoundPieces
from stream.sources.scaling import MOST_LONG_SIDE, fitted
from stream.sources.ticking import TickingSource

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

HELD_FOR_SOUND: Final = 15
"""Frames of a pushed recording that may wait for sound that belongs to them: half a second."""

FRAMES_WAITING: Final = 24
"""Frames of a pushed recording that may wait; beyond it `push_frame` waits for room."""

SOUND_WAITING_S: Final = 60.0
"""Sound of a pushed recording that may wait for frames."""

CHUNK_SAMPLES: Final = 1600
"""The most sound of a pushed recording that goes on at once: a tenth of a second, so that it never runs far ahead."""

_OK: Final = InputStatus("ok", "pushed by the program")
_WAITING: Final = InputStatus("waiting", "nothing was pushed yet")
_ENDED: Final = InputStatus("ended", "the program has finished")
_OFF: Final = InputStatus("off", "the session was opened without sound")


class Pushed(Source, Protocol):
    """A source that a program feeds, from any one thread."""

    @property
    def first_frame_s(self) -> float | None:
        """The first frame's time on the program's clock: zero of the source's axis. None before it."""
        ...

    def push_frame(self, rgb: NDArray[np.uint8], time_s: float) -> None:
        """A picture (height, width, 3) that nobody changes any more, at a time in seconds on the program's clock."""
        ...

    def push_sound(self, samples: NDArray[np.float32], time_s: float, sample_rate: int) -> None:
        """Mono sound (n,) in [-1, 1], whose first sample is at a time on the program's clock."""
        ...

    def finish(self) -> None:
        """No more will be pushed."""
        ...


class PushedLive(TickingSource):
    """A live source whose pictures and sound a program pushes as they happen.

    As with a camera, ticks come at `tick_rate` by the wall clock with the newest picture, what is too late or too
    much is dropped and counted, and nothing pushed ever waits. The program's clock may be any that runs in seconds:
    it is followed as a device's is.
    """

    def __init__(self, *, tick_rate: float, sound: bool, name: str = "pushed") -> None:
        captures = LiveCaptures()
        captures.set_status("camera", _WAITING)
        captures.set_status("microphone", _WAITING if sound else _OFF)
        super().__init__(_info(name, tick_rate, sound=sound), captures)
        self._clock: ClockMap | None = None
        self._pieces: LiveSoundPieces | None = None
        self.first_frame_s: float | None = None

    def push_frame(self, rgb: NDArray[np.uint8], time_s: float) -> None:
        """Shown from the next tick on, until a newer one comes."""
        arrival_s = time.monotonic()
        clock = self._clock or start_clock(time.time() - arrival_s, time_s, arrival_s)
        self._clock, at_s = step_clock_map(clock, time_s, arrival_s)
        if self.first_frame_s is None:
            self.first_frame_s = time_s
        self._say_ok("camera")
        self._captures.put_picture(CapturedPicture(at_s, Picture.from_ndarray(rgb, format="rgb24")))

    def push_sound(self, samples: NDArray[np.float32], time_s: float, sample_rate: int) -> None:
        """Heard by the next tick; left out before the first frame, when there is no axis yet to lay it on."""
        self._say_ok("microphone")
        if self._clock is None or self._clock.offset_s is None:
            self._captures.count("audio_before_video_samples", len(samples))
            return
        at_s = min(time_s + self._clock.offset_s, time.monotonic())
        if sample_rate == SAMPLE_RATE:
            self._captures.put_sound(CapturedSound(at_s, samples))
            return
        self._pieces = self._pieces or LiveSoundPieces()
        for piece in self._pieces.step(_audio_frame(samples, sample_rate), at_s):
            self._captures.put_sound(piece)

    def finish(self) -> None:
        """What was pushed and is still to be shown or heard is, then the source ends."""
        for name in ("camera", "microphone"):
            if self._captures.health(name) != "off":
                self._captures.set_status(name, _ENDED)

    def _say_ok(self, name: Any) -> None:
        if self._captures.health(name) == "waiting":
            self._captures.set_status(name, _OK)


class PushedRecording:
    """A recording that a program pushes: every frame counts, at its own time, and `push_frame` waits for room.

    A frame goes on once sound up to its time has come, or `HELD_FOR_SOUND` frames wait behind it; without sound at
    once. Sound is laid as its times say, a gap left as a gap. `counters`: `audio_gaps`, `audio_overlap_samples`,
    `audio_before_video_samples` (trimmed), `audio_late_samples` (came after frames that it belonged to).
    """

    live: Final = False

    def __init__(self, *, frame_rate: float, sound: bool, name: str = "pushed") -> None:
        self._info = _info(name, frame_rate, sound=sound)
        self._sound = sound
        self._counters: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._frames: deque[VideoFrame] = deque()
        self._early: list[tuple[NDArray[np.float32], float]] = []
        self._chunks: deque[AudioChunk] = deque()
        self._waiting_samples = 0
        self._next_sample: int | None = None
        self._pieces: LiveSoundPieces | None = None
        self._next_index = 0
        self._last_s = self._given_s = -1.0
        self._finished = self._closed = False
        self.first_frame_s: float | None = None

    @property
    def info(self) -> SourceInfo:
        """What the program said of it."""
        return self._info

    @property
    def counters(self) -> Mapping[str, int]:
        """What was mended so far; absent names are 0."""
        return Counter(self._counters)  # copied in one step, while the thread that pushes may count on

    @property
    def measures(self) -> Mapping[str, float]:
        """Nothing: the program's times are what they are."""
        return {}

    @property
    def inputs(self) -> Mapping[str, InputStatus]:
        """Both are there from the start."""
        return {"camera": _OK, "microphone": _OK if self._sound else _OFF}

    def wait_for_room(self, timeout_s: float) -> bool:
        """Whether `push_frame` would not wait, after at most that long. True once the source is closed."""
        with self._changed:
            return self._changed.wait_for(self._has_room, timeout_s)

    def push_frame(self, rgb: NDArray[np.uint8], time_s: float) -> None:
        """Adds a frame, waiting for room. Raises UserError where its time is not later than the last one's."""
        with self._changed:
            zero_s = time_s if self.first_frame_s is None else self.first_frame_s
            # To the microsecond, below which the difference of two large times means nothing.
            at_s = round(time_s - zero_s, 6)
            if at_s <= self._last_s:
                raise UserError(
                    f"the frame at {time_s:g} s is not later than the last one: "
                    "push frames in the order of their times"
                )
            self._changed.wait_for(self._has_room)
            if self.first_frame_s is None:
                self.first_frame_s = time_s
                for samples, heard_s in self._early:
                    self._place(samples, heard_s)
                self._early.clear()
            self._last_s = at_s
            self._frames.append(VideoFrame(self._next_index, self._last_s, time.time(), _scaled(rgb)))
            self._next_index += 1
            self._changed.notify_all()

    def push_sound(self, samples: NDArray[np.float32], time_s: float, sample_rate: int) -> None:
        """Adds sound. Raises UserError where `SOUND_WAITING_S` of it wait for frames already."""
        with self._changed:
            if self._waiting_samples > SOUND_WAITING_S * SAMPLE_RATE:
                raise UserError(
                    f"{SOUND_WAITING_S:g} s of sound wait for the frames that belong to it: "
                    "push frames and sound side by side"
                )
            if sample_rate == SAMPLE_RATE:
                pieces = [CapturedSound(time_s, samples)]
            else:
                self._pieces = self._pieces or LiveSoundPieces()
                pieces = self._pieces.step(_audio_frame(samples, sample_rate), time_s)
            self._keep(pieces)
            self._changed.notify_all()

    def finish(self) -> None:
        """No more will come: what waits goes on."""
        with self._changed:
            self._finished = True
            if self._pieces is not None:
                self._keep(self._pieces.finish())
            self._changed.notify_all()

    def close(self) -> None:
        """Ends `events()`, and a push that waits."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def events(self) -> Iterator[SourceEvent]:
        """Sound and frames as they are pushed, merged by time; once."""
        while (event := self._next_event()) is not None:
            yield event

    def _has_room(self) -> bool:
        return len(self._frames) < FRAMES_WAITING or self._closed

    def _next_event(self) -> SourceEvent | None:
        """Waits for it; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._finished or self._frame_may_go())
            if self._closed:
                return None
            before = self._frames[0].time_s * SAMPLE_RATE if self._frames else float("inf")
            if self._chunks and self._chunks[0].start_sample <= before:
                chunk = self._chunks.popleft()
                self._waiting_samples -= len(chunk.samples)
                return chunk
            if not self._frames:
                return None
            frame = self._frames.popleft()
            self._given_s = frame.time_s
            self._changed.notify_all()
            return frame

    def _frame_may_go(self) -> bool:
        """Whether the oldest frame's sound has come, or will not be waited for any longer."""
        if not self._frames:
            return False
        heard = not self._sound or (self._next_sample or 0) > self._frames[0].time_s * SAMPLE_RATE
        return heard or len(self._frames) > HELD_FOR_SOUND

    def _keep(self, pieces: Sequence[CapturedSound]) -> None:
        """With the lock held: lays sound on the axis, or waits for the first frame to do so."""
        for piece in pieces:
            self._waiting_samples += len(piece.samples)
            if self.first_frame_s is None:
                self._early.append((piece.samples, piece.at_s))
            else:
                self._place(piece.samples, piece.at_s)

    def _place(self, samples: NDArray[np.float32], at_s: float) -> None:
        """With the lock held: lays sound on the axis."""
        assert self.first_frame_s is not None
        due = (at_s - self.first_frame_s) * SAMPLE_RATE
        fit = fit_sound(self._next_sample, due, len(samples), SAMPLE_RATE)
        self._waiting_samples -= fit.skip
        if fit.gap:
            self._counters["audio_gaps"] += 1
        if fit.skip:
            cause = "audio_before_video_samples" if self._next_sample is None else "audio_overlap_samples"
            self._counters[cause] += fit.skip
            samples = samples[fit.skip :]
        if not len(samples):
            return
        self._next_sample = fit.start + len(samples)
        late = min(len(samples), max(0, int(self._given_s * SAMPLE_RATE) - fit.start))
        if late:
            self._counters["audio_late_samples"] += late
        for at in range(0, len(samples), CHUNK_SAMPLES):
            self._chunks.append(AudioChunk(fit.start + at, samples[at : at + CHUNK_SAMPLES]))


def _info(name: str, frame_rate: float, *, sound: bool) -> SourceInfo:
    return SourceInfo(
        name=name,
        width=0,
        height=0,
        frame_rate=frame_rate,
        duration_s=None,
        video_codec="rawvideo",
        audio_codec="pcm" if sound else None,
        has_audio=sound,
        frames_hint=None,
    )


def _scaled(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture, no larger than faces need."""
    height, width = rgb.shape[:2]
    size = fitted(width, height, MOST_LONG_SIDE)
    if size == (width, height):
        return rgb
    small = Picture.from_ndarray(rgb, format="rgb24").reformat(width=size[0], height=size[1])
    return np.ascontiguousarray(small.to_ndarray(), dtype=np.uint8)


def _audio_frame(samples: NDArray[np.float32], sample_rate: int) -> AudioFrame:
    frame = AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
    frame.sample_rate = sample_rate
    return frame
