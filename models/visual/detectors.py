"""Faces in one picture: OpenCV's Haar cascades, which need no download, or YuNet where it is installed."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Protocol, runtime_checkable

import cv2
import cv2.data
import numpy as np
from numpy.typing import NDArray

from models.errors import SetupError, UserError
from models.files import file_hash, tree_hash

if TYPE_CHECKING:
    from collections.abc import Iterator

Image = NDArray[np.uint8]
Box = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Face:
    """A face in a picture, in its pixels.

    `box` is (x, y, width, height); `landmarks` (5, 2) float32: the eye, nose and mouth points in the order
    left eye, right eye, nose tip, left and right corner of the mouth, left and right as the picture shows
    them; `score` in [0, 1], of use only between faces of one detector.
    """

    box: Box
    landmarks: NDArray[np.float32]
    score: float

    @property
    def area(self) -> float:
        """Of the box, in square pixels."""
        return self.box[2] * self.box[3]


@runtime_checkable
class FaceDetector(Protocol):
    """Finds the faces of one picture; the same picture always gives the same faces in the same order."""

    @property
    def name(self) -> str:
        """What manifests and status messages call it."""

    def detect(self, rgb: Image) -> list[Face]:
        """All faces in `rgb` (H, W, 3) uint8."""


@runtime_checkable
class GlancingDetector(FaceDetector, Protocol):
    """A detector whose whole search is too slow for every frame in which nobody is seen."""

    def glance(self, rgb: Image) -> list[Face]:
        """The faces that are easily seen, for much less than `detect`."""


@runtime_checkable
class FollowingDetector(FaceDetector, Protocol):
    """A detector that looks again near a face it knows for much less than searching the whole picture."""

    def detect_near(self, rgb: Image, box: Box) -> list[Face]:
        """The faces of about that size around `box`."""


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes, in [0, 1]."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / (a[2] * a[3] + b[2] * b[3] - both)


def as_rgb(picture: NDArray[np.uint8]) -> Image:
    """`picture` as contiguous (H, W, 3): grey (H, W) or (H, W, 1) is repeated, a fourth channel left out.

    Raises ValueError for other shapes, an empty picture, or values that are not uint8.
    """
    if picture.dtype != np.uint8:
        raise ValueError(f"a picture must be uint8, not {picture.dtype}")
    if picture.ndim == 2:
        picture = picture[:, :, None]
    if picture.ndim != 3 or picture.shape[2] not in (1, 3, 4) or picture.size == 0:
        raise ValueError(f"a picture must be (height, width, 3), not {picture.shape}")
    if picture.shape[2] == 1:
        picture = np.repeat(picture, 3, axis=2)
    return np.ascontiguousarray(picture[:, :, :3])


@dataclass(frozen=True)
class _Reach:
    """How far from a box a face is sought: a part of the box's side beyond it, and how much smaller or larger."""

    margin: float
    factor: float


class HaarDetector:
    """OpenCV's frontal-face cascades (Viola and Jones 2001; Lienhart and Maydt 2002), inside its 4.x wheel.

    The `default` cascade, quick to dismiss a background, proposes; the independently trained `alt2` must
    agree, for what one takes for a face by mistake the other seldom does, and gives the box. A face already
    known is followed by `alt2` alone. Finds frontal faces, upright within about 12 degrees, at least a tenth
    of the picture's longer side.

    Cascades give no landmarks: these are put where they are on average in such a box, in upright faces
    within a tenth of the distance between the eyes from where YuNet sees them. OpenCV's eye cascades are
    of no help: they find both eyes in two frames out of three, no nearer than that.
    """

    name = "haar"

    # Fractions of the side of an `alt2` box: YuNet's landmarks averaged over twelve clips of ten people
    # filmed from the front, and over left and right. Clips differ by 0.01 to 0.02 (standard deviation).
    PROPORTIONS: Final = np.array(
        [[0.318, 0.386], [0.682, 0.386], [0.5, 0.606], [0.337, 0.771], [0.663, 0.771]], np.float32
    )
    # Counted up when the same picture no longer gives the same boxes or landmarks.
    _REVISION: Final = 2
    _PROPOSES: Final = "haarcascade_frontalface_default.xml"
    _CONFIRMS: Final = "haarcascade_frontalface_alt2.xml"
    _SEARCHED_SIDE: Final = 320
    _SMALLEST: Final = 32
    _FOLLOWED_SIDE: Final = 96
    _AGREEMENT: Final = 0.4
    _UNSURE: Final = _Reach(margin=0.5, factor=4 / 3)
    _FOLLOWED: Final = _Reach(margin=0.3, factor=1.2)

    def __init__(self) -> None:
        self._proposes = load_cascade(self._PROPOSES)
        self._confirms = load_cascade(self._CONFIRMS)

    @classmethod
    def sha256(cls) -> str:
        """What a feature recipe pins: a hash over the cascades and how they are used."""
        cascades = {name: file_hash(cascade_path(name)) for name in (cls._PROPOSES, cls._CONFIRMS)}
        return tree_hash(cascades | {"revision": str(cls._REVISION)})

    def detect(self, rgb: Image) -> list[Face]:
        """All faces in `rgb` (H, W, 3) uint8, the most certain first. ValueError for what is no picture."""
        grey = cv2.cvtColor(as_rgb(rgb), cv2.COLOR_RGB2GRAY)
        shrink = min(1.0, self._SEARCHED_SIDE / max(grey.shape))
        proposed = _search(self._proposes, _resized(grey, shrink), self._SMALLEST, None, neighbors=4)
        faces: list[Face] = []
        for inner, _ in proposed:
            box = _scale_box(inner, 1 / shrink)
            near = self._find_near(grey, box, self._UNSURE)
            agreeing = [face for face in near if overlap(face.box, box) >= self._AGREEMENT]
            best = max(agreeing, key=lambda face: overlap(face.box, box), default=None)
            if best is not None and all(overlap(best.box, other.box) < self._AGREEMENT for other in faces):
                faces.append(best)
        return sorted(faces, key=by_score)

    def detect_near(self, rgb: Image, box: Box) -> list[Face]:
        """Faces of about the size of `box`, no further from it than a face moves in a frame or two, the most certain
        first.
        """
        rgb = as_rgb(rgb)
        return sorted(self._find_near(rgb, box, self._FOLLOWED), key=by_score)

    def _find_near(self, picture: Image, box: Box, reach: _Reach) -> list[Face]:
        """Faces around `box` in a picture in colours or in grey."""
        x, y, width, height = box
        margin = reach.margin * width
        left, top = max(0, int(x - margin)), max(0, int(y - margin))
        right, bottom = max(0, int(x + width + margin)), max(0, int(y + height + margin))
        region = picture[top:bottom, left:right]
        if region.size == 0:
            return []
        if region.ndim == 3:
            region = cv2.cvtColor(region, cv2.COLOR_RGB2GRAY)
        shrink = min(1.0, self._FOLLOWED_SIDE / width)
        side = width * shrink
        smallest, largest = int(side / reach.factor), int(side * reach.factor) + 1
        found = _search(self._confirms, _resized(region, shrink), smallest, largest, neighbors=3)
        faces = []
        for inner, hits in found:
            x, y, width, height = _scale_box(inner, 1 / shrink)
            faces.append(face_in_box((x + left, y + top, width, height), hits))
        return faces


class YunetDetector:
    """YuNet (Wu et al. 2023) through OpenCV: it sees the landmarks, and turned, dark and small faces too.

    Pictures are shrunk to 480 pixels on their longer side: at 640 landmarks are no steadier to speak of, at
    twice the time. It searches every frame whole: shown only the region of a known face, its landmarks
    shake with the region's edges. Raises UserError where the file is missing or is not YuNet.
    """

    name = "yunet"
    _SEARCHED_SIDE: Final = 480
    _SMALLEST_SIDE: Final = 64
    _LOWEST_SCORE: Final = 0.7

    def __init__(self, model_path: Path | str) -> None:
        path = Path(model_path)
        if not path.is_file():
            raise UserError(f"no YuNet model at {path}: give its .onnx file, or use the detector 'haar'")
        try:
            with _quiet_opencv():
                self._net = cv2.FaceDetectorYN.create(str(path), "", (320, 320), self._LOWEST_SCORE)
                self._net.detect(np.zeros((320, 320, 3), np.uint8))
        except (cv2.error, SystemError) as error:
            raise SetupError(
                f"{path} is not a YuNet model that OpenCV can read", way_out="install it again or use 'haar'"
            ) from error

    def detect(self, rgb: Image) -> list[Face]:
        """All faces in `rgb` (H, W, 3) uint8, the most certain first. ValueError for what is no picture."""
        bgr = cv2.cvtColor(as_rgb(rgb), cv2.COLOR_RGB2BGR)
        shrink = min(1.0, self._SEARCHED_SIDE / max(bgr.shape[:2]))
        bgr = _resized(bgr, shrink)
        # OpenCV reads uninitialised memory where the network's coarsest map (stride 32) is one cell wide.
        below, beside = (max(0, self._SMALLEST_SIDE - side) for side in bgr.shape[:2])
        bgr = cv2.copyMakeBorder(bgr, 0, below, 0, beside, cv2.BORDER_CONSTANT)
        self._net.setInputSize((bgr.shape[1], bgr.shape[0]))
        rows = self._net.detect(bgr)[1]
        if rows is None:
            return []
        faces = [
            Face(
                _scale_box(tuple(row[:4].tolist()), 1 / shrink),
                (row[4:14].reshape(5, 2) / shrink).astype(np.float32),
                float(row[14]),
            )
            for row in rows
        ]
        return sorted(faces, key=by_score)


def make_detector(
    choice: Literal["auto", "haar", "yunet"] = "auto",
    model_path: Path | str | None = None,
    *,
    framing: Literal["landmarks", "box"] = "landmarks",
) -> FaceDetector:
    """The chosen detector; `auto` is YuNet where `model_path` is given or its part installed, else Haar.

    Where crops are framed about the `box`, Haar is the patient one. Landmarks that are guessed from a box would be
    too far off in the turned faces that it finds, so it does not serve crops that are aligned by them.

    Raises UserError for an unknown choice, and where YuNet is asked for but not there or not readable.
    """
    if choice not in ("auto", "haar", "yunet"):
        raise UserError(f"unknown face detector '{choice}': choose auto, haar or yunet")
    if choice == "haar":
        return _make_haar(framing)
    if model_path is None:
        from models.parts.registry import find_part, require_part

        part = find_part("yunet") if choice == "auto" else require_part("yunet")
        if part is None:
            return _make_haar(framing)
        model_path = part.path
    return YunetDetector(model_path)


def _make_haar(framing: Literal["landmarks", "box"]) -> HaarDetector:
    from models.visual.patient_haar import PatientHaarDetector

    return PatientHaarDetector() if framing == "box" else HaarDetector()


def cascade_path(file_name: str) -> Path:
    """Where OpenCV's wheel has a cascade."""
    return Path(cv2.data.haarcascades) / file_name


def load_cascade(file_name: str) -> cv2.CascadeClassifier:
    """A cascade of OpenCV's wheel. Raises UserError where it lacks it."""
    cascade = cv2.CascadeClassifier(str(cascade_path(file_name)))
    if cascade.empty():
        raise SetupError(f"this OpenCV lacks {file_name}", way_out="install opencv-python-headless>=4.10,<5")
    return cascade


def _search(
    cascade: cv2.CascadeClassifier, grey: Image, smallest: int, largest: int | None, neighbors: int
) -> list[tuple[Box, int]]:
    """Square boxes with sides from `smallest` to `largest`, and how many raw hits each unites."""
    grey = cv2.equalizeHist(grey)
    limit = (0, 0) if largest is None else (largest, largest)
    boxes, counts = cascade.detectMultiScale2(
        grey, 1.1, neighbors, minSize=(smallest, smallest), maxSize=limit
    )
    found = [(tuple(float(v) for v in box), int(count)) for box, count in zip(boxes, counts, strict=True)]
    # OpenCV's threads report their hits in any order.
    return sorted(((x, y, w, h), n) for (x, y, w, h), n in found)


def face_in_box(box: Box, hits: int) -> Face:
    """A face whose landmarks are where they are on average in an `alt2` box; surer with more hits."""
    corner, size = np.array(box[:2], np.float32), np.array(box[2:], np.float32)
    return Face(box, corner + HaarDetector.PROPORTIONS * size, hits / (hits + 10))


def _resized(picture: Image, scale: float) -> Image:
    if scale == 1:
        return picture
    size = [max(1, round(side * scale)) for side in picture.shape[1::-1]]
    resized: Image = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return resized


def _scale_box(box: Box, factor: float) -> Box:
    x, y, width, height = box
    return (x * factor, y * factor, width * factor, height * factor)


def by_score(face: Face) -> tuple[float, Box]:
    """Sorts faces, the most certain first."""
    return (-face.score, face.box)


@contextmanager
def _quiet_opencv() -> Iterator[None]:
    """No messages of OpenCV on stderr about a bad file: the error that is raised says it in one line."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)
