"""A person's face at one moment, in its room: features drawn on the painted head, which then turns and moves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from offline.performer.canvas import BOTTOM, LEFT, RIGHT, TOP, Picture, lay_in
from offline.performer.facial_features import FeaturePainter, Pose
from offline.performer.portrait import paint_portrait

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from offline.performer.person import Person


class FacePainter:
    """Draws one person; the static layers are painted once, in the constructor."""

    def __init__(self, person: Person, size: tuple[int, int], detail: float = 1.3) -> None:
        """`size` (width, height) in pixels; the head is painted `detail` times larger than it appears."""
        self._person = person
        self._size = size
        width, height = size
        self._scale = person.scene.scale * height
        self._centre = np.array([person.scene.centre[0] * width, person.scene.centre[1] * height])
        self._unit = self._scale * detail
        self._portrait = paint_portrait(person, self._unit, size)
        self._torso = self._portrait.torso[..., :3]
        self._torso_cover = cv2.merge([self._portrait.torso[..., 3]] * 3)
        self._features = FeaturePainter(person, self._unit)
        self._noise = np.random.default_rng([person.seed, 3])
        self._grain = self._noise_tile()
        xs = ((np.arange(width) + 0.5 - self._centre[0]) / self._scale).astype(np.float32)
        ys = ((np.arange(height) + 0.5 - self._centre[1]) / self._scale).astype(np.float32)
        self._columns = slice(*np.searchsorted(xs, (LEFT, RIGHT)))
        self._rows = slice(*np.searchsorted(ys, (TOP, BOTTOM)))
        self._xs, self._ys = xs[None, self._columns], ys[self._rows, None]

    def draw(self, pose: Pose) -> Picture:
        """The picture (height, width, 3) RGB of this moment; the camera's grain differs from call to call."""
        head = self._portrait.head.copy()
        self._features.draw(head, pose)
        picture = self._portrait.room.copy()
        moved = self._move(head, pose)
        region = picture[self._rows, self._columns]
        rest = cv2.bitwise_not(cv2.merge([moved[..., 3]] * 3))
        region[:] = cv2.add(moved[..., :3], cv2.multiply(region, rest, scale=1 / 255))
        lay_in(picture, self._torso, self._torso_cover)
        lit = cv2.LUT(picture, self._portrait.light)
        return self._with_grain(lit)

    def _move(self, head: Picture, pose: Pose) -> Picture:
        """Turn, tilt and shift the painted head: where each pixel of the picture comes from."""
        cos, sin = np.float32(np.cos(pose.tilt)), np.float32(np.sin(pose.tilt))
        # The head tilts about the neck.
        x = self._xs - np.float32(pose.x)
        y = self._ys - np.float32(pose.y) - np.float32(1.5)
        u = cos * x + sin * y
        v = cos * y - sin * x + np.float32(1.5)
        # An open jaw lengthens the face below the nose; the neck stays.
        lower = np.clip((v - 0.55) / 0.8, 0, 1)
        v = v - np.float32(0.10 * pose.jaw) * (lower * lower * (3 - 2 * lower)) * np.clip(
            (2.1 - v) / 0.5, 0, 1
        )
        map_x = (u - LEFT) * np.float32(self._unit) - np.float32(0.5)
        map_y = (v - TOP) * np.float32(self._unit) - np.float32(0.5)
        depth = cv2.remap(self._portrait.depth, map_x, map_y, cv2.INTER_LINEAR)
        map_x -= depth * np.float32(pose.yaw * self._unit)
        map_y -= depth * np.float32(pose.nod * self._unit)
        return np.asarray(
            cv2.remap(head, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0),
            np.uint8,
        )

    def _noise_tile(self) -> NDArray[np.int16] | None:
        grain = self._person.scene.grain
        if grain <= 0:
            return None
        width, height = self._size
        tile = self._noise.normal(0, grain, (height + 64, width + 64)).round().astype(np.int16)
        return np.repeat(tile[..., None], 3, axis=2)

    def _with_grain(self, picture: Picture) -> Picture:
        if self._grain is None:
            return picture
        top, left = (int(i) for i in self._noise.integers(0, 64, 2))
        height, width = picture.shape[:2]
        return np.asarray(
            cv2.add(picture, self._grain[top : top + height, left : left + width], dtype=cv2.CV_8U), np.uint8
        )
