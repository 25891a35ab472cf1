"""One person's face through a recording: find it, keep to it, and give the crop of each frame."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from models.spec import CropSpec
from models.visual.alignment import align, network_input, to_crop, zero_crop
from models.visual.detectors import (
    Box,
    Face,
    FaceDetector,
    FollowingDetector,
    GlancingDetector,
    HaarDetector,
    Image,
    YunetDetector,
    as_rgb,
    make_detector,
    overlap,
)
from models.visual.framing import BoxFraming, frame_face, framing_of

__all__ = [
    "Face",
    "FaceDetector",
    "FaceObservation",
    "FaceTracker",
    "FollowingDetector",
    "HaarDetector",
    "TrackerState",
    "YunetDetector",
    "align",
    "make_detector",
    "network_input",
    "to_crop",
]


@dataclass(frozen=True, eq=False)
class FaceObservation:
    """The primary face of a frame, and its crop (48, 48, 3) uint8 RGB, all zero where there is none."""

    face: Face | None
    crop: Image

    @property
    def detected(self) -> bool:
        """Whether this frame shows the face; nothing is carried over from earlier frames."""
        return self.face is not None


@dataclass(frozen=True)
class TrackerState:
    """Where the primary face was last seen (None: nobody is followed), and how many frames ago; `glances` counts the
    frames since a whole search, where a detector can do with less in between.
    """

    box: Box | None = None
    missed: int = 0
    glances: int = 0


class FaceTracker:
    """Keeps to one face from frame to frame.

    The first is the one with the greatest score times area; afterwards the one that overlaps the last most,
    by at least `min_overlap` (intersection over union). A face that is not found is not made up: its frame
    gives the zero crop. Its place is remembered for `patience` frames, in which nobody else is taken for it;
    then the choice is open again. A detector whose whole search is slow does it in the first frame that nobody is
    followed in, and then in every `search_every`-th. No clock is read: the same frames in the same order give the
    same crops.

    Raises UserError where crops are framed about the box of a detector that was never fitted for that.
    """

    def __init__(
        self,
        detector: FaceDetector,
        spec: CropSpec | None = None,
        *,
        min_overlap: float = 0.3,
        patience: int = 5,
        search_every: int = 15,
    ) -> None:
        self.detector = detector
        self._following = detector if isinstance(detector, FollowingDetector) else None
        self.spec = CropSpec() if spec is None else spec
        self.min_overlap = min_overlap
        self._glancing = detector if isinstance(detector, GlancingDetector) else None
        self.patience = patience
        self.search_every = search_every

    def initial_state(self) -> TrackerState:
        """The state before the first frame: nobody is followed."""
        return TrackerState()

    def step(self, state: TrackerState, rgb: Image) -> tuple[TrackerState, FaceObservation]:
        """Look at the next frame, (H, W, 3) uint8 RGB, or grey. Raises ValueError for what is no picture."""
        rgb = as_rgb(rgb)
        face = self._find_primary(state, rgb)
        if face is not None:
            return TrackerState(face.box), FaceObservation(face, self._crop_face(rgb, face))
        if state.box is None or state.missed >= self.patience:
            glances = (state.glances + 1) % self.search_every if state.box is None else 0
            return TrackerState(glances=glances), FaceObservation(None, zero_crop(self.spec))
        return TrackerState(state.box, state.missed + 1), FaceObservation(None, zero_crop(self.spec))

    @cached_property
    def _framing(self) -> BoxFraming:
        """How the detector's boxes become squares; a detector that never finds a face needs to have none."""
        return framing_of(self.detector.name)

    def _crop_face(self, rgb: Image, face: Face) -> Image:
        if self.spec.framing == "box":
            return frame_face(rgb, self._framing.square(face.box), self.spec)
        return to_crop(align(rgb, face.landmarks, self.spec), self.spec)

    def _find_primary(self, state: TrackerState, rgb: Image) -> Face | None:
        if state.box is None:
            faces = self._glance(rgb) if state.glances else self.detector.detect(rgb)
            return max(faces, key=lambda face: face.score * face.area, default=None)
        if self._following is not None:
            face = self._find_same(state.box, self._following.detect_near(rgb, state.box))
            if face is not None:
                return face
        return self._find_same(state.box, self._glance(rgb))

    def _glance(self, rgb: Image) -> list[Face]:
        """The detector's quick search, or its only one."""
        return self.detector.detect(rgb) if self._glancing is None else self._glancing.glance(rgb)

    def _find_same(self, box: Box, faces: list[Face]) -> Face | None:
        face = max(faces, key=lambda face: overlap(box, face.box), default=None)
        return face if face is not None and overlap(box, face.box) >= self.min_overlap else None
