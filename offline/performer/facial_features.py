"""A face's features at one moment: eyes, brows, mouth and the folds that muscles make, drawn on the painted head.

Muscles are named in plain words beside the action units of the Facial Action Coding System (Ekman and Friesen 1978)
that they stand for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from offline.performer.canvas import (
    EYE_X,
    EYE_Y,
    LEFT,
    MOUTH_Y,
    SHIFT,
    TOP,
    Easel,
    Picture,
    Plane,
    Points,
    as_plane,
    lay_in,
    to_pixels,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from offline.performer.person import Person


class Pose(NamedTuple):
    """One moment of a face. Muscles are 0 at rest and about 1 at full strength unless said otherwise.

    smile: in [-1, 1], lip corners up (AU12) or down (AU15); jaw: mouth opening (AU26); round: lips drawn in (AU18);
    raise_brows: AU1+2, negative lowers; frown: brows together and down (AU4); grieve: inner brows up (AU1);
    lids: opening of the eyes, 1 at rest (AU5 widens), 0 shut; squint: lower lids up (AU6+7); gaze: (x, y) in
    [-1, 1]; yaw, nod, tilt: turns in radians (right, down, clockwise); x, y: shift in head units.
    """

    smile: float = 0.0
    jaw: float = 0.0
    round: float = 0.0
    raise_brows: float = 0.0
    frown: float = 0.0
    grieve: float = 0.0
    lids: float = 1.0
    squint: float = 0.0
    gaze_x: float = 0.0
    gaze_y: float = 0.0
    yaw: float = 0.0
    nod: float = 0.0
    tilt: float = 0.0
    x: float = 0.0
    y: float = 0.0


class FeaturePainter:
    """Draws one person's features, at `unit` pixels to a head unit."""

    def __init__(self, person: Person, unit: float) -> None:
        self._person = person
        self._unit = unit
        self._creases = _crease_maps(Easel(unit))

    def draw(self, head: Picture, pose: Pose) -> None:
        """Draw them on `head` (rows, columns, 4), in place."""
        self._draw_creases(head, pose)
        for side in (-1, 1):
            self._draw_eye(head, pose, side)
            self._draw_brow(head, pose, side)
        self._draw_mouth(head, pose)
        if self._person.looks.glasses != "none":
            self._draw_glasses(head)

    def _draw_creases(self, head: Picture, pose: Pose) -> None:
        """Folds that muscles make: beside a smiling mouth, between frowning brows, on a raised forehead."""
        creases = self._creases
        strength = (
            max(pose.smile, 0.0), max(pose.frown, 0.0), max(pose.raise_brows, 0.0), max(-pose.smile, 0.0),
        )  # fmt: skip
        for crease, much in zip(creases, strength, strict=True):
            if much < 0.03:
                continue
            (rows, columns), plane = crease
            region = head[rows, columns, :3]
            region[:] = cv2.multiply(
                region, cv2.merge([1 + np.float32(min(much, 1.2)) * plane] * 3), dtype=cv2.CV_8U
            )

    def _fill(self, head: Picture, points: Points, colour: tuple[float, ...]) -> None:
        cv2.fillPoly(head, [to_pixels(points, self._unit)], (*colour, 255), cv2.LINE_AA, SHIFT)

    def _stroke(self, head: Picture, points: Points, colour: tuple[float, ...], width: float) -> None:
        thickness = max(1, round(width * self._unit))
        pixels = [to_pixels(points, self._unit)]
        cv2.polylines(head, pixels, False, (*colour, 255), thickness, cv2.LINE_AA, SHIFT)

    def _draw_eye(self, head: Picture, pose: Pose, side: int) -> None:
        shape, looks = self._person.shape, self._person.looks
        size = shape.eye_size
        cx, cy = side * EYE_X * shape.eye_spacing, EYE_Y
        inner = np.array([cx - side * 0.215 * size, cy + 0.025])
        outer = np.array([cx + side * 0.225 * size, cy - 0.015 - shape.eye_tilt])
        lids = float(np.clip(pose.lids, 0.0, 1.7))
        up = 0.150 * size * lids
        down = 0.085 * size * (1 - 0.55 * float(np.clip(pose.squint, 0, 1))) * min(1.0, 0.25 + 0.75 * lids)
        middle = cy + 0.035 * size * (1 - min(lids, 1.0))
        upper = _arc(inner, outer, (cx - side * 0.03, middle - up))
        lower = _arc(inner, outer, (cx + side * 0.03, middle + down))
        skin = np.array(looks.skin, float)

        if lids > 0.12:
            # Paint the eyeball on a small patch, and let it show between the lids.
            left, top = np.floor(to_pixels(np.array([[cx - 0.32, cy - 0.36]]), self._unit)[0] / 32).astype(
                int
            )
            right, bottom = np.ceil(to_pixels(np.array([[cx + 0.32, cy + 0.24]]), self._unit)[0] / 32).astype(
                int
            )
            patch = head[top:bottom, left:right].copy()
            origin = np.array([left, top]) << SHIFT
            almond = to_pixels(np.concatenate([upper, lower[::-1]]), self._unit) - origin
            window = np.zeros(patch.shape[:2], np.uint8)
            cv2.fillPoly(window, [almond.astype(np.int32)], 255, cv2.LINE_AA, SHIFT)
            ball = np.empty_like(patch)
            ball[:] = (*(0.55 * np.array([236.0, 232, 228]) + 0.40 * skin), 255)
            at = np.array([[cx + 0.075 * pose.gaze_x, cy - 0.02 + 0.05 * pose.gaze_y]])
            centre = to_pixels(at, self._unit)[0] - origin

            def disc(x: float, y: float, radius: float, colour: tuple[float, ...]) -> None:
                spot = (int(centre[0] + x * self._unit * 32), int(centre[1] + y * self._unit * 32))
                cv2.circle(ball, spot, int(radius * self._unit * 32), (*colour, 255), -1, cv2.LINE_AA, SHIFT)

            iris = np.array(looks.iris, float)
            disc(0, 0, 0.122 * size, tuple(iris * 0.45))
            disc(0, 0, 0.106 * size, tuple(iris))
            disc(0, 0.03, 0.070 * size, tuple(np.minimum(iris * 1.25, 255)))
            disc(0, 0, 0.054 * size, (14, 12, 12))
            # The lid's shadow on the ball, then the light in the eye.
            shade = np.linspace(0.62, 1.0, max(1, patch.shape[0] // 2))
            rows = np.ones(patch.shape[0])
            start = max(0, int((middle - up - cy + 0.36) * self._unit))
            rows[start : start + len(shade)] = shade[: len(rows) - start]
            rows[:start] = 0.62
            ball[..., :3] = (ball[..., :3] * rows[:, None, None]).astype(np.uint8)
            lx = np.sign(self._person.scene.light[0])
            disc(0.042 * lx, -0.045, 0.026, (255, 255, 255))
            disc(-0.035 * lx, 0.045, 0.012, (220, 224, 228))
            lay_in(patch[..., :3], ball[..., :3], cv2.merge([window] * 3))
            head[top:bottom, left:right] = patch
        lash = tuple(0.21 * np.array(looks.hair, float) + 8)
        fold = upper.copy()
        fold[:, 1] -= 0.045 + 0.02 * lids
        self._stroke(head, fold[3:-3], tuple(skin * 0.66), 0.018)
        self._stroke(head, lower[4:-2], tuple(skin * 0.58), 0.014)
        self._stroke(head, upper, lash, 0.018 + 0.018 * shape.lashes)
        if shape.lashes > 0.5:
            flick = np.stack([upper[-3], outer, outer + np.array([side * 0.045, -0.03])])
            self._stroke(head, flick, lash, 0.024)

    def _draw_brow(self, head: Picture, pose: Pose, side: int) -> None:
        shape, looks = self._person.shape, self._person.looks
        cx = side * EYE_X * shape.eye_spacing
        lift = 0.15 * pose.raise_brows
        y = EYE_Y - 0.31 - lift
        inner = (cx - side * (0.25 + 0.055 * pose.frown), y + 0.03 + 0.13 * pose.frown - 0.17 * pose.grieve)
        arch = (
            cx + side * 0.08,
            y - 0.085 + 0.055 * pose.frown - 0.01 * pose.grieve - 0.02 * pose.raise_brows,
        )
        outer = (cx + side * 0.31, y + 0.045 - 0.015 * pose.frown + 0.06 * pose.grieve)
        t = np.linspace(0, 1, 16)[:, None]
        a, b, c = (np.array(p) for p in (inner, arch, outer))
        # A quadratic through the three points.
        line = a * (1 - t) * (1 - 2 * t) + b * 4 * t * (1 - t) + c * t * (2 * t - 1)
        half: Points = (
            0.052 * shape.brow_weight * (np.minimum(1, 0.75 + 1.2 * t) * np.minimum(1, 1.35 * (1.02 - t)))
        )
        down = np.array([0.0, 1.0])
        outline = np.concatenate([line - down * half, (line + down * half * 0.85)[::-1]])
        ink = 0.62 * np.array(looks.hair, float) + 0.10 * np.array(looks.skin, float)
        # Paint it softly: a translucent edge under the full stroke.
        soft = np.concatenate([line - down * (half + 0.014), (line + down * (half * 0.85 + 0.014))[::-1]])
        self._fill(head, soft, tuple(0.5 * ink + 0.40 * np.array(looks.skin, float)))
        self._fill(head, outline, tuple(ink))

    def _draw_mouth(self, head: Picture, pose: Pose) -> None:
        shape, looks = self._person.shape, self._person.looks
        smile = float(np.clip(pose.smile, -1.1, 1.1))
        happy, sad = max(smile, 0.0), max(-smile, 0.0)
        gape = float(np.clip(pose.jaw, 0, 1.2))
        half = 0.335 * shape.mouth_width * (1 + 0.27 * happy - 0.04 * sad - 0.20 * pose.round - 0.06 * gape)
        corner_y = MOUTH_Y - 0.125 * happy + 0.105 * sad
        middle_y = MOUTH_Y + 0.045 * happy - 0.045 * sad
        parted = 0.085 * max(0.0, happy - 0.30) / 0.7 + 0.24 * gape
        t = np.linspace(-1, 1, 25)
        bend = 1 - t**2
        full = shape.lip_fullness * (1 - 0.18 * happy + 0.12 * pose.round)
        seam = corner_y + (middle_y - corner_y) * bend
        # Corners drawn up or down leave the lips a little beyond the parabola.
        seam = seam - 0.02 * smile * np.abs(t) ** 6
        x = t * half
        roof, floor = seam - 0.30 * parted * bend, seam + 0.85 * parted * bend**0.8
        bow = (
            0.082 * bend**0.7
            - 0.020 * np.exp(-np.square(t / 0.16))
            + 0.010 * np.exp(-np.square((np.abs(t) - 0.3) / 0.2))
        )
        top = roof - full * bow
        bottom = floor + full * 0.105 * bend**0.62
        lips = np.array(looks.lips, float)
        skin = np.array(looks.skin, float)

        def ring(a: NDArray[np.float64], b: NDArray[np.float64]) -> Points:
            return np.concatenate([np.stack([x, a], 1), np.stack([x, b], 1)[::-1]])

        self._fill(head, ring(top - 0.008 * bend, bottom + 0.010 * bend), tuple(0.5 * lips + 0.45 * skin))
        self._fill(head, ring(top, roof + 0.01), tuple(lips * 0.88))
        self._fill(head, ring(floor - 0.01, bottom), tuple(lips))
        gloss = (floor + (bottom - floor) * 0.45)[6:-6]
        self._stroke(
            head, np.stack([x[6:-6] * 0.7, gloss], 1), tuple(np.minimum(lips * 1.12 + 10, 255)), 0.028 * full
        )
        if parted > 0.012:
            self._fill(head, ring(roof, floor), (66, 24, 26))
            depth = floor - roof
            teeth = np.minimum(depth * 0.72, 0.085 + 0.02 * happy) * (np.abs(t) < 0.93)
            self._fill(head, ring(roof, roof + teeth), (234, 228, 218))
            if gape > 0.25:
                tongue = np.maximum(floor - 0.40 * depth * np.clip(1 - (t / 0.7) ** 2, 0, 1), roof + teeth)
                self._fill(head, ring(tongue, floor), (176, 84, 84))
        else:
            self._stroke(head, np.stack([x, seam], 1), tuple(lips * 0.48), 0.020)
        for side in (0, -1):
            corner = np.array([[x[side], seam[side]]])
            spot = to_pixels(corner, self._unit)[0]
            radius = int(0.020 * self._unit * 32)
            cv2.circle(
                head, (int(spot[0]), int(spot[1])), radius, (*(lips * 0.5), 255), -1, cv2.LINE_AA, SHIFT
            )

    def _draw_glasses(self, head: Picture) -> None:
        shape = self._person.shape
        metal = (74, 66, 62)
        angles = np.linspace(0, 2 * np.pi, 41)
        # A superellipse: a circle, or a rounded square.
        power, height = (1.0, 0.30) if self._person.looks.glasses == "round" else (0.55, 0.24)
        around = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        rim = np.sign(around) * np.abs(around) ** power * (0.335, height)
        for side in (-1, 1):
            cx = side * EYE_X * 1.02 * shape.eye_spacing
            ring = rim + np.array([cx, EYE_Y + 0.03])
            self._stroke(head, ring, metal, 0.018)
            temple = np.array([[cx + side * 0.335, EYE_Y - 0.03], [side * 1.0 * shape.width, EYE_Y - 0.07]])
            self._stroke(head, temple, metal, 0.018)
        bridge = _arc(np.array([-0.11, EYE_Y - 0.01]), np.array([0.11, EYE_Y - 0.01]), (0.0, EYE_Y - 0.05))
        self._stroke(head, bridge, metal, 0.020)


def _arc(start: Points, end: Points, through: tuple[float, float]) -> Points:
    """A lid's curve (17, 2): from one corner to the other, at its middle at the height of `through`."""
    t = np.linspace(0, 1, 17)[:, None]
    control = 2 * np.array(through) - (start + end) / 2
    return np.asarray(start * (1 - t) ** 2 + 2 * control * t * (1 - t) + end * t**2)


Crease = tuple[tuple[slice, slice], Plane]


def _crease_maps(easel: Easel) -> tuple[Crease, Crease, Crease, Crease]:
    """Shading, to be multiplied in, of a smile, a frown, raised brows and a drooping mouth at full strength."""
    x, y = np.abs(easel.x), easel.y
    fold_x = 0.30 + 0.30 * np.clip((y - 0.48) / 0.45, 0, 1.2)
    along = np.exp(-0.5 * np.square((y - 0.66) / 0.13))
    nasolabial = -0.26 * np.exp(-0.5 * np.square((x - fold_x) / 0.028)) * along
    smile = (
        nasolabial
        + 0.10 * easel.pair(0.52, 0.34, 0.14, 0.10)
        - 0.10 * easel.pair(EYE_X, EYE_Y + 0.19, 0.17, 0.022)
    )
    lines = np.exp(-0.5 * np.square((x - 0.075) / 0.018)) * np.exp(-0.5 * np.square((y + 0.38) / 0.09))
    frown = -0.30 * lines - 0.14 * easel.spot(0, -0.33, 0.16, 0.10)
    wrinkles = np.exp(-0.5 * np.square(easel.x / 0.42)) * sum(
        np.exp(-0.5 * np.square((y - at + 0.10 * np.square(easel.x)) / 0.016)) for at in (-0.62, -0.74, -0.86)
    )
    raised = -0.13 * np.asarray(wrinkles)
    droop = (
        -0.18
        * np.exp(-0.5 * np.square((x - 0.36 - 0.25 * (y - 0.9)) / 0.03))
        * np.exp(-0.5 * np.square((y - 1.0) / 0.08))
    )
    smile_at, frown_at = (-0.05, 1.05), (-0.75, -0.05)
    return (
        _crease(easel, smile, smile_at), _crease(easel, frown, frown_at), _crease(easel, raised, (-1.0, -0.5)),
        _crease(easel, droop, (0.7, 1.3)),
    )  # fmt: skip


def _crease(easel: Easel, plane: NDArray[np.floating], rows: tuple[float, float]) -> Crease:
    top, bottom = (round((y - TOP) * easel.unit) for y in rows)
    left, right = (round((x - LEFT) * easel.unit) for x in (-0.85, 0.85))
    where = (slice(top, bottom), slice(left, right))
    return where, np.ascontiguousarray(as_plane(plane)[where])
