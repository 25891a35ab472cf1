"""A small picture of a face as a webcam would show it: enlarged, in the middle of a wider picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.visual.detectors import Image

WIDTH: Final = 480
HEIGHT: Final = 360
SHOWN_SIDE: Final = 240

_SMALLER: Final = 5
"""The border is out of focus: it is made at a fifth of the size."""

_BLUR_SIGMA: Final = 5.0


def show_on_canvas(picture: NDArray[np.uint8]) -> Image:
    """A square grey picture (n, n) uint8 as a video frame (360, 480, 3) uint8 RGB.

    The picture is enlarged to 240 x 240 in the middle; around it, the picture goes on mirrored and out of focus.
    Of the borders tried, this one hides fewest faces from either detector: of 299 FER+ pictures the cascades found
    76 % (mid-grey 60 %, the edge repeated 73 %), YuNet 96 % (97 %, 95 %).
    """
    top, left = (HEIGHT - SHOWN_SIDE) // 2, (WIDTH - SHOWN_SIDE) // 2
    small = cv2.resize(picture, (SHOWN_SIDE // _SMALLER,) * 2, interpolation=cv2.INTER_AREA)
    rows, columns = top // _SMALLER, left // _SMALLER
    around = cv2.copyMakeBorder(small, rows, rows, columns, columns, cv2.BORDER_REFLECT)
    around = cv2.GaussianBlur(around, (0, 0), _BLUR_SIGMA)
    grey = cv2.resize(around, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
    shown = cv2.resize(picture, (SHOWN_SIDE, SHOWN_SIDE), interpolation=cv2.INTER_CUBIC)
    grey[top : top + SHOWN_SIDE, left : left + SHOWN_SIDE] = shown
    return np.repeat(grey[:, :, None], 3, axis=2)
