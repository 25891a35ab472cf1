"""From a source's events to one `FrameFeatures` per video frame: a face crop and a patch of sound.

The same code serves live sources, replays and preprocessing: what was trained is what runs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, overload

from models.audio.logmel import PatchState, RollingPatches
from models.visual.alignment import zero_crop
from stream.flow.ladder import FULL, Rung
from stream.sources.events import AudioChunk, NoPicture, VideoFrame

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from models.spec import LogMelSpec, Modality
    from models.visual.tracker import FaceTracker, TrackerState
    from stream.messages import InputStatus


@dataclass(frozen=True)
class Availability:
    """Which inputs were there at a frame. A frame without a face is available: it is the zero crop."""

    visual: bool = True
    audio: bool = True
    language: bool = True

    @classmethod
    def by_health(cls, inputs: Mapping[str, InputStatus]) -> Availability:
        """By the health of `microphone` and `recogniser`; whether a picture is there shows when it comes."""

        def is_ok(name: str) -> bool:
            return name in inputs and inputs[name].health == "ok"

        return cls(audio=is_ok("microphone"), language=is_ok("microphone") and is_ok("recogniser"))

    def of(self, modality: Modality) -> bool:
        """Whether one branch's input was there."""
        found: bool = getattr(self, modality.value)
        return found


ALL_AVAILABLE: Final = Availability()


@dataclass(frozen=True, eq=False, repr=False)
class FrameFeatures:
    """One video frame as the networks take it, but for its words, which come later.

    `crop` uint8 (48, 48, 3) RGB, zeros where no face was found (report section 3.2); `patch` float32 (96, 64),
    the log-mel frames of the 0.96 s that end at the frame. `repeated`: a live source had no newer picture.
    `rung` says how it was served: on a lower one, `crop` and `patch` may be an earlier frame's, and then they
    are the same objects. `perceived_at` (seconds since the epoch) is when all this was known, None where nobody asks.
    """

    index: int
    time_s: float
    captured_at: float
    crop: NDArray[np.uint8]
    patch: NDArray[np.float32]
    face: bool
    available: Availability
    repeated: bool = False
    rung: Rung = FULL
    perceived_at: float | None = None


@dataclass(frozen=True, eq=False, repr=False)
class PerceptionState:
    """The tracked face, the newest sound, the last frame's features, and how many frames old their sight and
    sound are.
    """

    track: TrackerState
    sound: PatchState
    last: FrameFeatures | None = None
    sight_age: int = 0
    sound_age: int = 0


class Perception:
    """Sight and sound, one event at a time. Pure but for the detector's own work: `step` returns the new state."""

    def __init__(self, tracker: FaceTracker, log_mel: LogMelSpec | None = None) -> None:
        self.tracker = tracker
        self._patches = RollingPatches(log_mel)
        self._sample_rate = self._patches.log_mel.spec.sample_rate

    def initial_state(self) -> PerceptionState:
        """Before the first frame and the first sound."""
        return PerceptionState(self.tracker.initial_state(), self._patches.initial_state())

    @overload
    def step(
        self,
        state: PerceptionState,
        event: VideoFrame | NoPicture,
        available: Availability = ...,
        rung: Rung = ...,
    ) -> tuple[PerceptionState, FrameFeatures]: ...

    @overload
    def step(
        self, state: PerceptionState, event: AudioChunk, available: Availability = ..., rung: Rung = ...
    ) -> tuple[PerceptionState, None]: ...

    def step(
        self,
        state: PerceptionState,
        event: VideoFrame | NoPicture | AudioChunk,
        available: Availability = ALL_AVAILABLE,
        rung: Rung = FULL,
    ) -> tuple[PerceptionState, FrameFeatures | None]:
        """One event further: a frame, after all sound up to its time, gives its features; sound gives none yet.

        A picture that is the last one again, or that `rung` spares, gives the last one's crop. A tick without a
        picture gives the zero crop, the visual branch masked.
        """
        match event:
            case AudioChunk():
                sound = self._patches.step(state.sound, event.start_sample, event.samples)
                return replace(state, sound=sound), None
            case VideoFrame():
                return self._step_picture(state, event, available, rung)
            case NoPicture():
                return self._step_no_picture(state, event, available, rung)

    def _step_picture(
        self, state: PerceptionState, frame: VideoFrame, available: Availability, rung: Rung
    ) -> tuple[PerceptionState, FrameFeatures]:
        track, last = state.track, state.last
        spared = frame.repeated or state.sight_age + 1 < rung.visual_stride
        if last is not None and last.available.visual and spared:
            crop, face, age = last.crop, last.face, state.sight_age + (not frame.repeated)
        else:
            track, seen = self.tracker.step(track, frame.rgb)
            crop, face, age = seen.crop, seen.face is not None, 0
        sound_age, patch = self._newest_patch(state, frame.time_s, rung)
        features = FrameFeatures(
            index=frame.index,
            time_s=frame.time_s,
            captured_at=frame.captured_at,
            crop=crop,
            patch=patch,
            face=face,
            available=available,
            repeated=frame.repeated,
            rung=rung,
        )
        return PerceptionState(track, state.sound, features, age, sound_age), features

    def _step_no_picture(
        self, state: PerceptionState, tick: NoPicture, available: Availability, rung: Rung
    ) -> tuple[PerceptionState, FrameFeatures]:
        sound_age, patch = self._newest_patch(state, tick.time_s, rung)
        features = FrameFeatures(
            index=tick.index,
            time_s=tick.time_s,
            captured_at=tick.at,
            crop=zero_crop(self.tracker.spec),
            patch=patch,
            face=False,
            available=replace(available, visual=False),
            rung=rung,
        )
        track = self.tracker.initial_state()
        return PerceptionState(track, state.sound, features, 0, sound_age), features

    def _newest_patch(
        self, state: PerceptionState, time_s: float, rung: Rung
    ) -> tuple[int, NDArray[np.float32]]:
        """How many frames old the patch is that a frame at this time gets, and the patch."""
        if state.last is not None and state.sound_age + 1 < rung.audio_stride:
            return state.sound_age + 1, state.last.patch
        return 0, self._patches.patch_ending_at(state.sound, int(time_s * self._sample_rate))
