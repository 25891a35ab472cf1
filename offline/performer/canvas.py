"""What heads are painted with: a plane in head units, soft spots, outlines and masks.

*Head units*: (0, 0) is the middle of the head, between and just under the eyes; one unit is half the face's width;
y points down.
"""

from __future__ import annotations

from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
Points = NDArray[np.float64]
Picture = NDArray[np.uint8]

# The part of the head's plane that is painted.
LEFT, TOP, RIGHT, BOTTOM = -1.8, -2.15, 1.8, 2.5

EYE_X, EYE_Y = 0.44, -0.10
MOUTH_Y = 0.83

# Fractional bits of the coordinates that OpenCV's drawing functions take.
SHIFT: Final = 5


class Easel:
    """A plane in head units to paint on: coordinates, soft spots, and masks with smooth edges."""

    def __init__(self, unit: float) -> None:
        self.unit = unit
        self.size = (round((RIGHT - LEFT) * unit), round((BOTTOM - TOP) * unit))
        columns, rows = self.size
        self.x = as_plane((np.arange(columns) + 0.5) / unit + LEFT)[None, :]
        self.y = as_plane((np.arange(rows) + 0.5) / unit + TOP)[:, None]

    def spot(self, x: float, y: float, width: float, height: float) -> Plane:
        """A Gaussian spot, 1 at its middle; `width` and `height` are standard deviations."""
        across = np.exp(-0.5 * np.square((self.x - x) / width))
        down = np.exp(-0.5 * np.square((self.y - y) / height))
        return as_plane(across * down)

    def pair(self, x: float, y: float, width: float, height: float) -> Plane:
        """The same spot on both sides."""
        return as_plane(self.spot(x, y, width, height) + self.spot(-x, y, width, height))

    def noise(self, rng: np.random.Generator, across: float, along: float) -> Plane:
        """Random blotches of that size (head units), mean 0, standard deviation about 1."""
        columns, rows = self.size
        white = as_plane(rng.standard_normal((rows, columns)))
        noise = cv2.GaussianBlur(white, (0, 0), sigmaX=across * self.unit, sigmaY=along * self.unit)
        return as_plane(noise / noise.std())

    def mask(self, points: Points, soft: float = 0.0) -> Plane:
        """Coverage in [0, 1] of a polygon, its edge blurred by `soft` head units."""
        columns, rows = self.size
        canvas = np.zeros((rows, columns), np.uint8)
        cv2.fillPoly(canvas, [to_pixels(points, self.unit)], 255, cv2.LINE_AA, SHIFT)
        mask = as_plane(canvas / 255)
        return blur(mask, soft * self.unit) if soft else mask


def to_pixels(points: Points, unit: float) -> NDArray[np.int32]:
    """Head units to fixed-point pixels of the painted head, as OpenCV's drawing functions take them."""
    pixels = (points - (LEFT, TOP)) * unit - 0.5
    return np.round(pixels * (1 << SHIFT)).astype(np.int32)


def as_plane(values: NDArray[Any]) -> Plane:
    """As float32."""
    return np.asarray(values, np.float32)


def to_picture(values: NDArray[Any]) -> Picture:
    """Grey levels or colours, 0 to 255, rounded and clipped."""
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def blur(plane: Plane, sigma: float) -> Plane:
    """Gaussian blur."""
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), max(sigma, 0.3)), np.float32)


def outline(points: str) -> Points:
    """The points (n, 2) of "x,y x,y ..."."""
    return np.array([[float(c) for c in point.split(",")] for point in points.split()])


def mirrored(right: Points) -> Points:
    """A symmetric outline from its right half, listed from top to bottom."""
    left = right[::-1] * (-1, 1)
    return np.concatenate([right, left[left[:, 0] != 0]])


def smooth(p: Points, per_side: int = 12) -> Points:
    """A closed Catmull-Rom curve through the points."""
    before, after, beyond = np.roll(p, 1, 0), np.roll(p, -1, 0), np.roll(p, -2, 0)
    t = np.linspace(0, 1, per_side, endpoint=False)[None, :, None]
    a, b, c, d = before[:, None], p[:, None], after[:, None], beyond[:, None]
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    return np.asarray(curve).reshape(-1, 2)


def lay_over(below: Plane, colour: NDArray[Any], cover: Plane) -> Plane:
    """Lay a colour (or a coloured plane) over layers with coverage (RGB multiplied by it), where it covers."""
    top = np.dstack([np.clip(colour, 0, 255), np.full(below.shape[:2], 255.0)])
    return as_plane(below + (top - below) * cover[..., None])


def lay_in(below: Picture, above: Picture, cover: Picture) -> None:
    """Lay a picture over another, in place, where it covers (0 to 255 in each channel)."""
    shown = cv2.multiply(above, cover, scale=1 / 255)
    rest = cv2.multiply(below, cv2.bitwise_not(cover), scale=1 / 255)
    below[:] = cv2.add(shown, rest)
