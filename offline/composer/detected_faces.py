"""Where the live path frames the faces of small pictures: found once by a detector, and kept."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from models.visual.detectors import Face, FaceDetector, HaarDetector
from models.visual.framing import BoxFraming, Square, framing_of
from offline.files import replacing
from offline.people.canvas import HEIGHT, SHOWN_SIDE, WIDTH, show_on_canvas

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

USUAL_SQUARE: Final = Square(24.0, 25.5, 46.0)
USUAL_LANDMARKS: Final = ((15.5, 19.5), (32.5, 19.5), (24.0, 29.0), (17.5, 37.5), (30.5, 37.5))
"""Where a face is framed, and its landmarks are, that the detector misses: what YuNet sees on average in a 48 x 48
picture of FER+."""

_REVISION: Final = 1


@dataclass(frozen=True, eq=False)
class DetectedFaces:
    """Of N pictures, in their own pixels: `squares` (N, 3) as x, y, side; `landmarks` (N, 5, 2); `found` (N,)."""

    squares: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    found: NDArray[np.bool_]


def detect_faces(
    images: NDArray[np.uint8],
    detector: FaceDetector,
    kept_in: Path,
    on_picture: Callable[[], None] = lambda: None,
) -> DetectedFaces:
    """Each picture (N, s, s) shown on a canvas to the detector; what was found once is read back from a folder.

    Raises UserError where the folder cannot be written.
    """
    path = kept_in / f"observed-{_content_hash(images, detector)[:16]}.npz"
    if path.is_file():
        with np.load(path, allow_pickle=False) as kept:
            return DetectedFaces(kept["squares"], kept["landmarks"], kept["found"])
    framing = framing_of(detector.name)
    squares = np.tile(np.array(USUAL_SQUARE, np.float32), (len(images), 1))
    landmarks = np.tile(np.array(USUAL_LANDMARKS, np.float32), (len(images), 1, 1))
    found = np.zeros(len(images), np.bool_)
    for i, image in enumerate(images):
        faces = detector.detect(show_on_canvas(image))
        face = max(faces, key=lambda face: face.score * face.area, default=None)
        if face is not None:
            square, landmarks[i] = _in_picture(face, framing, image.shape[0])
            squares[i], found[i] = square, True
        on_picture()
    buffer = io.BytesIO()
    np.savez(buffer, squares=squares, landmarks=landmarks, found=found)
    with replacing(path) as file:
        file.write(buffer.getvalue())
    return DetectedFaces(squares, landmarks, found)


def _in_picture(face: Face, framing: BoxFraming, side: int) -> tuple[Square, NDArray[np.float32]]:
    """A face found on the canvas, in the picture's own pixels."""
    scale = side / SHOWN_SIDE
    left, top = (WIDTH - SHOWN_SIDE) / 2, (HEIGHT - SHOWN_SIDE) / 2
    square = framing.square(face.box)
    found = Square((square.x - left) * scale, (square.y - top) * scale, square.side * scale)
    return found, ((face.landmarks - np.array([left, top])) * scale).astype(np.float32)


def _content_hash(images: NDArray[np.uint8], detector: FaceDetector) -> str:
    """Over the pictures, the detector and how it is framed."""
    sha256 = detector.sha256() if isinstance(detector, HaarDetector) else ""
    how = f"{_REVISION} {detector.name} {sha256} {framing_of(detector.name)} {images.shape}"
    return hashlib.sha256(how.encode() + images.tobytes()).hexdigest()
