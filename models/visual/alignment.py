"""From a face's landmarks to the picture that the network sees: align at 112, keep 48, show the middle 40."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from models.spec import CropSpec
from models.visual.detectors import Image, as_rgb

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Where published face recognisers have the landmarks in a 112 x 112 picture (Deng et al. 2019, ArcFace).
TEMPLATE: Final = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
_TEMPLATE_SIDE: Final = 112


def similarity(source: NDArray[np.floating], target: NDArray[np.floating]) -> NDArray[np.float64]:
    """The (2, 3) similarity (turn, scale, shift; no mirror) from `source` to nearest `target`, both (n, 2).

    Least squares (Umeyama 1991), written for the plane: points as complex numbers, the turn and scale as one.
    Raises ValueError for points that are not finite or all in one place.
    """
    if not np.isfinite(source).all():
        raise ValueError("landmarks must be finite")
    z, w = (np.asarray(p, np.float64) @ np.array([1, 1j]) for p in (source, target))
    z_mean, w_mean = z.mean(), w.mean()
    spread = float(np.sum(np.abs(z - z_mean) ** 2))
    if spread < 1e-9:
        raise ValueError("landmarks must not all be in one place")
    turn = np.sum(np.conj(z - z_mean) * (w - w_mean)) / spread
    shift = w_mean - turn * z_mean
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def align(rgb: Image, landmarks: NDArray[np.floating], spec: CropSpec | None = None) -> Image:
    """The face upright and centred: (aligned_size, aligned_size, 3) uint8, black where the picture ends.

    `landmarks` (5, 2) in pixels of `rgb`, in the order of `Face.landmarks`. Raises ValueError for landmarks
    that are not finite or all in one place.
    """
    side = (spec or CropSpec()).aligned_size
    rgb = as_rgb(rgb)
    matrix = similarity(landmarks, TEMPLATE * (side / _TEMPLATE_SIDE))
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    # warpAffine reads four pixels: a face much larger than the crop is shrunk first, or it would alias.
    halvings = max(0, int(np.floor(-np.log2(scale))))
    if halvings:
        factor = 2**halvings
        height, width = (max(1, round(n / factor)) for n in rgb.shape[:2])
        x_factor, y_factor = rgb.shape[1] / width, rgb.shape[0] / height
        to_full = np.array([[x_factor, 0, (x_factor - 1) / 2], [0, y_factor, (y_factor - 1) / 2], [0, 0, 1]])
        matrix = matrix @ to_full
        if rgb.shape[:2] == (height * factor, width * factor):
            rgb = _shrunk_around(rgb, factor, matrix, side)
        else:
            rgb = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
    aligned: Image = cv2.warpAffine(rgb, matrix, (side, side), flags=cv2.INTER_LINEAR)
    return aligned


def _shrunk_around(rgb: Image, factor: int, matrix: NDArray[np.float64], side: int) -> Image:
    """A picture shrunk by a whole factor, which divides its sides, where `matrix` makes a square of `side` pixels of
    it; the rest holds anything. The same pixels as in the whole picture shrunk, for a part of the work.
    """
    height, width = (n // factor for n in rgb.shape[:2])
    square = np.array([[0, side, side, 0], [0, 0, side, side]])
    corners = np.linalg.solve(matrix[:, :2], square - matrix[:, 2:])
    # A pixel for the interpolation, one for its rounding.
    left, top = (int(max(0, np.floor(low) - 2)) for low in corners.min(axis=1))
    beyond = np.ceil(corners.max(axis=1)) + 3
    right, bottom = (int(min(n, max(0, high))) for n, high in zip((width, height), beyond, strict=True))
    shrunk = np.empty((height, width, 3), np.uint8)
    if left < right and top < bottom:
        region = rgb[top * factor : bottom * factor, left * factor : right * factor]
        size = (right - left, bottom - top)
        shrunk[top:bottom, left:right] = cv2.resize(region, size, interpolation=cv2.INTER_AREA)
    return shrunk


def to_crop(aligned: Image, spec: CropSpec | None = None) -> Image:
    """An aligned face at the size that is kept, (stored_size, stored_size, 3) uint8, averaged by area."""
    side = (spec or CropSpec()).stored_size
    crop: Image = cv2.resize(aligned, (side, side), interpolation=cv2.INTER_AREA)
    return crop


def zero_crop(spec: CropSpec | None = None) -> Image:
    """What stands for a frame without a face (report section 3.2): of each size one array, read-only.

    What is computed of a crop need not be computed again for the same array.
    """
    return _zero_crop_of((spec or CropSpec()).stored_size)


@cache
def _zero_crop_of(side: int) -> Image:
    crop = np.zeros((side, side, 3), np.uint8)
    crop.setflags(write=False)
    return crop


def network_input(crops: NDArray[np.uint8], spec: CropSpec | None = None) -> NDArray[np.float32]:
    """Crops (N, stored, stored, 3) uint8 as the network takes them: (N, 3, input, input) float32.

    The middle of each crop, (x / 255 - mean) / std. Raises ValueError for another shape or type.
    """
    spec = spec or CropSpec()
    stored = spec.stored_size
    if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[1:] != (stored, stored, 3):
        raise ValueError(f"crops must be uint8 (N, {stored}, {stored}, 3), not {crops.dtype} {crops.shape}")
    begin = (stored - spec.input_size) // 2
    middle = crops[:, begin : begin + spec.input_size, begin : begin + spec.input_size]
    pixels = np.ascontiguousarray(middle.transpose(0, 3, 1, 2), np.float32)
    mean, std = np.float32(spec.pixel_mean), np.float32(spec.pixel_std)
    return (pixels / np.float32(255) - mean) / std
