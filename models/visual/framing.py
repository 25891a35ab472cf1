"""From a detector's box to the upright square that is kept of a face, alike for every detector.

Detectors see landmarks or do not, and draw their boxes tighter or wider. A square about the box, its side and centre
corrected by constants of each detector, frames the same face alike whichever found it: a network trained on one
detector's crops serves with another's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import cv2
import numpy as np

from models.errors import UserError

if TYPE_CHECKING:
    from models.spec import CropSpec
    from models.visual.detectors import Box, Image


class Square(NamedTuple):
    """Centre and side in pixels of a picture, whose top left corner is (0, 0)."""

    x: float
    y: float
    side: float


@dataclass(frozen=True)
class BoxFraming:
    """How one detector's box becomes the square: its side is `scale` times the box's larger edge, its centre the
    box's, moved by `right` and `down` of these edges.
    """

    scale: float
    right: float = 0.0
    down: float = 0.0

    def square(self, box: Box) -> Square:
        """The square for a box (x, y, width, height)."""
        x, y, width, height = box
        edge = max(width, height)
        return Square(x + width / 2 + self.right * edge, y + height / 2 + self.down * edge, self.scale * edge)


FRAMINGS: Final[dict[str, BoxFraming]] = {
    "yunet": BoxFraming(1.12),
    "haar": BoxFraming(1.207, 0.0, 0.024),
    "haar-patient": BoxFraming(1.207, 0.0, 0.024),
}
"""By the detector's name. YuNet's is the reference; Haar's was fitted to it on FER+ training pictures in which both
find the face (medians of side and centre). The boxes that Haar's patient search votes for fit the same within 2 %."""


def framing_of(detector: str) -> BoxFraming:
    """How the named detector's box becomes the square. Raises UserError for a detector that was never fitted."""
    framing = FRAMINGS.get(detector)
    if framing is None:
        raise UserError(
            f"it is not known how the face detector '{detector}' frames a face: use haar or yunet"
        )
    return framing


def frame_face(picture: Image, square: Square, spec: CropSpec) -> Image:
    """What `square` holds of a picture (H, W, 3): (stored_size, stored_size, 3) uint8, grey where the spec says so.

    The picture's edge is continued where it ends. A face much larger than the crop is first shrunk by a whole factor,
    averaged by area and only around the square; the rest of the way is one bilinear resampling.
    """
    stored = spec.stored_size
    height, width = picture.shape[:2]
    factor = max(1, int(square.side / stored))
    margin = square.side / 2 + 2 * factor
    left, top = int(np.floor(square.x - margin)), int(np.floor(square.y - margin))
    cells = int(np.ceil(2 * margin / factor)) + 1
    right, bottom = left + cells * factor, top + cells * factor
    if top >= 0 and left >= 0 and bottom <= height and right <= width:
        region = picture[top:bottom, left:right]
    else:
        rows = np.clip(np.arange(top, bottom), 0, height - 1)
        columns = np.clip(np.arange(left, right), 0, width - 1)
        region = picture[rows[:, None], columns[None, :]]
    if spec.grey:
        region = cv2.cvtColor(np.ascontiguousarray(region), cv2.COLOR_RGB2GRAY)
    if factor > 1:
        region = cv2.resize(region, (cells, cells), interpolation=cv2.INTER_AREA)
    step = square.side / factor / stored
    # Pixel i of the crop has its centre at (i + 0.5) steps from the square's edge; as an index into the region.
    x0 = (square.x - square.side / 2 - left) / factor + step / 2 - 0.5
    y0 = (square.y - square.side / 2 - top) / factor + step / 2 - 0.5
    crop: Image = cv2.warpAffine(
        region,
        np.array([[step, 0, x0], [0, step, y0]]),
        (stored, stored),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.repeat(crop[:, :, None], 3, axis=2) if spec.grey else crop
