"""What is read off a recording: the moments of the live engine, without its threads and clocks. Pure but for reading.

Nothing is computed here that the live engine does not compute: crops and patches come from
`stream.perception.features`, words
from `stream.perception.speech`, and a frame's word vector is the one its settled estimate is made with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.spec import LogMelSpec, WindowSpec
from models.speech.timeline import WordTimeline
from models.speech.words import EVERYTHING_SETTLED, Settled, SpeechEvent, Word, WordsRevised
from models.visual.detectors import Box, Face, FaceDetector, FollowingDetector, GlancingDetector, Image
from stream.estimation.window import RevisableWindow
from stream.perception.features import Availability, FrameFeatures, Perception
from stream.perception.speech import Speech, transcriber_settings
from stream.sources.events import AudioChunk, VideoFrame

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from models.speech.recogniser import RecogniserFactory
    from models.text.embedder import TextEmbedder
    from offline.data.aff_wild2 import Side
    from stream.sources.file import MediaFile


def perceive(
    source: MediaFile, perception: Perception, new_recogniser: RecogniserFactory | None
) -> Iterator[tuple[FrameFeatures | None, list[SpeechEvent]]]:
    """A recording's frames, each with everything said up to it; at last, without a frame, what was left.

    What the engine does with a recording, without its threads and clocks.
    """
    info = source.info
    settings = transcriber_settings(WindowSpec().length, info.frame_rate)
    available = Availability(audio=info.has_audio, language=info.has_audio and new_recogniser is not None)
    speech = Speech(new_recogniser if info.has_audio else None, settings, has_sound=info.has_audio)
    state = perception.initial_state()
    try:
        for event in source.events():
            match event:
                case AudioChunk():
                    speech.hear(event)
                    state, _ = perception.step(state, event)
                case VideoFrame():
                    state, features = perception.step(state, event, available)
                    yield features, speech.catch_up(event.time_s)
        yield None, [*speech.finish(), EVERYTHING_SETTLED]
    finally:
        speech.close()


class SettledWords:
    """The word vectors of frames, each once nothing can change it any more: what settled estimates are made with.

    Goes through the same window and timeline as the estimator. `utterances` holds the words of those that closed.
    """

    def __init__(
        self, embedder: TextEmbedder | None, width: int, capacity: int = WindowSpec().length
    ) -> None:
        """`width` is E, of the zeros where there is no word; `capacity` frames may wait."""
        self.utterances: list[tuple[Word, ...]] = []
        self._embedder = embedder
        self._silence = np.zeros(width, np.float32)
        self._timeline = WordTimeline()
        self._window: RevisableWindow[_Moment] = RevisableWindow(capacity)

    def step(self, time_s: float | None, events: Iterable[SpeechEvent]) -> list[NDArray[np.float32]]:
        """Takes speech events and then a frame in (None: the end); gives the vectors (E,) of frames that settled."""
        for event in events:
            self._timeline, _ = self._timeline.step(event)
            if isinstance(event, Settled):
                self._window = self._window.advance(event.until_s)
            elif isinstance(event, WordsRevised) and event.closed and event.words:
                self.utterances.append(event.words)
        if time_s is not None:
            self._window = self._window.push(_Moment(time_s))
        self._window, leaving, _ = self._window.settle()
        vectors = [self._vector(moment.time_s) for moment in leaving]
        if leaving:
            self._timeline = self._timeline.forget_before(leaving[-1].time_s)
        return vectors

    def _vector(self, time_s: float) -> NDArray[np.float32]:
        placed = None if self._embedder is None else self._timeline.word_at(time_s)
        if placed is None or self._embedder is None:
            return self._silence
        vector: NDArray[np.float32] = self._embedder.embed(placed.texts)[placed.index]
        return vector


@dataclass(frozen=True)
class _Moment:
    time_s: float


class PatchRows:
    """Patches as one run of log-mel frames: of each patch only what the last one did not show is kept."""

    def __init__(self, spec: LogMelSpec) -> None:
        self._spec = spec
        self._grid = 0
        self._rows = 0
        self._last: NDArray[np.float32] | None = None

    def add(self, patch: NDArray[np.float32], time_s: float) -> tuple[NDArray[np.float32], int]:
        """The frames to keep of the patch that ends at `time_s`, and where it ends among all that were kept."""
        spec = self._spec
        grid = (int(time_s * spec.sample_rate) - spec.window_samples) // spec.hop_samples + 1
        new = grid - self._grid
        shared = spec.patch_frames - new
        # A patch that does not go on where the last one ended (a jump in time) is kept whole.
        if self._last is None or shared <= 0 or not np.array_equal(patch[:shared], self._last[new:]):
            new = spec.patch_frames
        self._grid, self._last = grid, patch
        self._rows += new
        return patch[spec.patch_frames - new :], self._rows


class OneSideDetector:
    """A detector that looks for the faces on one half of the picture, as the picture shows it.

    Where two people each have a trial, this decides whose face is taken up; the tracker then keeps to it.
    """

    def __init__(self, detector: FaceDetector, side: Side) -> None:
        self.name = detector.name
        self._detector = detector
        self._following = detector if isinstance(detector, FollowingDetector) else None
        self._glancing = detector if isinstance(detector, GlancingDetector) else None
        self._side = side

    def detect(self, rgb: Image) -> list[Face]:
        """The faces whose middle is on that side."""
        return self._on_side(self._detector.detect(rgb), rgb)

    def glance(self, rgb: Image) -> list[Face]:
        """The faces on that side that are easily seen, where the detector makes a difference."""
        faces = self._detector.detect(rgb) if self._glancing is None else self._glancing.glance(rgb)
        return self._on_side(faces, rgb)

    def detect_near(self, rgb: Image, box: Box) -> list[Face]:
        """The faces around `box`, wherever it is."""
        if self._following is not None:
            return self._following.detect_near(rgb, box)
        return self._detector.detect(rgb)

    def _on_side(self, faces: list[Face], rgb: Image) -> list[Face]:
        return [face for face in faces if self._is_on_side(face, rgb.shape[1])]

    def _is_on_side(self, face: Face, width: int) -> bool:
        middle = face.box[0] + face.box[2] / 2
        return middle < width / 2 if self._side == "left" else middle >= width / 2


class NoFaceDetector:
    """Finds no face and costs nothing: the crops are there already."""

    def __init__(self, name: str) -> None:
        self.name = name

    def detect(self, rgb: Image) -> list[Face]:
        return []
