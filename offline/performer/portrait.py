"""What of a person does not change: the painted head, the room behind, the shoulders in front.

Everything is drawn in *head units*: (0, 0) is the middle of the head, between and just under the eyes; one unit is
half the face's width; y points down. Painted once for each person, in floating point with soft shading.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from offline.performer.person import FaceShape, Person

Plane = NDArray[np.float32]
Picture = NDArray[np.uint8]

# The part of the head's plane that is painted, in head units.
LEFT, TOP, RIGHT, BOTTOM = -1.8, -2.15, 1.8, 2.5
_SHIFT: Final = 5

EYE_X, EYE_Y = 0.44, -0.10
MOUTH_Y = 0.83


@dataclass(frozen=True)
class Portrait:
    """The static layers of one person.

    `head` (rows, columns, 4) RGB, already multiplied by coverage, and coverage; `unit` pixels to a head unit; `depth` (rows, columns) how far the
    surface stands out, in head units, for turning the head. `room` and `torso` are picture-sized, the torso with
    coverage. `light` (256, 1, 3) is the look-up table from painted to photographed colours.
    """

    head: Picture
    depth: Plane
    unit: float
    room: Picture
    torso: Picture
    light: Picture


class Easel:
    """A plane in head units to paint on: coordinates, soft spots, and masks with smooth edges."""

    def __init__(self, unit: float) -> None:
        self.unit = unit
        self.size = (round((RIGHT - LEFT) * unit), round((BOTTOM - TOP) * unit))
        columns, rows = self.size
        self.x: Plane = (((np.arange(columns) + 0.5) / unit + LEFT)[None, :]).astype(np.float32)
        self.y: Plane = (((np.arange(rows) + 0.5) / unit + TOP)[:, None]).astype(np.float32)

    def spot(self, x: float, y: float, width: float, height: float) -> Plane:
        """A Gaussian spot, 1 at its middle; `width` and `height` are standard deviations."""
        across = np.exp(-0.5 * np.square((self.x - x) / width))
        down = np.exp(-0.5 * np.square((self.y - y) / height))
        return (across * down).astype(np.float32)

    def pair(self, x: float, y: float, width: float, height: float) -> Plane:
        """The same spot on both sides."""
        return self.spot(x, y, width, height) + self.spot(-x, y, width, height)

    def mask(self, points: NDArray[np.float64], soft: float = 0.0) -> Plane:
        """Coverage in [0, 1] of a polygon, its edge blurred by `soft` head units."""
        columns, rows = self.size
        canvas = np.zeros((rows, columns), np.uint8)
        cv2.fillPoly(canvas, [to_pixels(points, self.unit)], 255, cv2.LINE_AA, _SHIFT)
        mask = canvas.astype(np.float32) / 255
        return blur(mask, soft * self.unit) if soft else mask


def to_pixels(points: NDArray[np.float64], unit: float) -> NDArray[np.int32]:
    """Head units to fixed-point pixels of the painted head, as OpenCV's drawing functions take them."""
    pixels = (points - (LEFT, TOP)) * unit - 0.5
    return np.round(pixels * (1 << _SHIFT)).astype(np.int32)


def blur(plane: Plane, sigma: float) -> Plane:
    """Gaussian blur."""
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), max(sigma, 0.3)), np.float32)


def smooth_outline(points: list[tuple[float, float]], per_side: int = 12) -> NDArray[np.float64]:
    """A closed Catmull-Rom curve through the points."""
    p = np.array(points, float)
    before, after, beyond = np.roll(p, 1, 0), np.roll(p, -1, 0), np.roll(p, -2, 0)
    t = np.linspace(0, 1, per_side, endpoint=False)[None, :, None]
    a, b, c, d = before[:, None], p[:, None], after[:, None], beyond[:, None]
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    return np.asarray(curve).reshape(-1, 2)


def mirrored(right: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """A symmetric outline from its right half, listed from top to bottom."""
    return right + [(-x, y) for x, y in reversed(right) if x != 0.0]


def paint_portrait(person: Person, unit: float, size: tuple[int, int]) -> Portrait:
    """All layers of a person, for pictures of `size` (width, height) and a head painted at `unit` pixels a unit."""
    easel = Easel(unit)
    rng = np.random.default_rng([person.seed, 2])
    return Portrait(
        head=_to_picture(_paint_head(person, easel, rng)),
        depth=_depth(easel),
        unit=unit,
        room=_paint_room(person, size, rng),
        torso=_paint_torso(person, size),
        light=_light_table(person),
    )


def _to_picture(plane: NDArray[np.floating]) -> Picture:
    return np.clip(np.round(plane), 0, 255).astype(np.uint8)


def _over(below: Plane, colour: NDArray[np.floating], cover: Plane) -> Plane:
    """Lay a colour (or a coloured plane) over layers with coverage (RGB multiplied by it), where it covers."""
    top = np.dstack([np.clip(colour, 0, 255), np.full(below.shape[:2], 255.0)])
    return (below + (top - below) * cover[..., None]).astype(np.float32)


def face_outline(shape: FaceShape) -> NDArray[np.float64]:
    """The face's edge, from the top of the skull to the chin."""
    w, j = shape.width, shape.jaw
    return smooth_outline(
        mirrored([
            (0.0, -1.48), (0.48 * w, -1.40), (0.84 * w, -1.08), (0.98 * w, -0.60), (1.0 * w, -0.10),
            (0.96 * w, 0.35), ((0.80 + 0.10 * j) * w, 0.78), ((0.52 + 0.13 * j) * w, 1.13),
            ((0.22 + 0.10 * j) * w, 1.36), (0.0, 1.43),
        ])
    )  # fmt: skip


def _paint_head(person: Person, easel: Easel, rng: np.random.Generator) -> Plane:
    """The head (rows, columns, 4), 0 to 255, coverage last: hair at the back, neck, ears, face, hair at the front."""
    shape, looks, light = person.shape, person.looks, person.scene.light
    columns, rows = easel.size
    skin = np.array(looks.skin, np.float32)
    head = np.zeros((rows, columns, 4), np.float32)
    strands = _strands(easel, rng, looks.style == "curly")

    back = _back_hair(person, easel)
    if back is not None:
        head = _over(head, _hair_colour(person, easel, strands, depth=0.62), back)

    w = shape.width
    neck_width = 0.50 + 0.16 * shape.jaw
    neck = easel.mask(
        smooth_outline(mirrored([(0.0, 0.7), (neck_width, 0.75), (neck_width, 1.7), (1.1, 2.3), (1.2, 2.6), (0.0, 2.6)])),
        0.01,
    )
    throat = 0.80 - 0.34 * easel.spot(0, 1.42, 0.62, 0.22) + 0.04 * easel.spot(light[0] * 0.4, 1.9, 0.3, 0.5)
    head = _over(head, skin * throat[..., None], neck)

    for side in (-1, 1):
        ear = easel.mask(
            smooth_outline([(side * x * w, y) for x, y in [(0.93, -0.22), (1.05, -0.28), (1.13, -0.14), (1.10, 0.12), (1.02, 0.30), (0.93, 0.26)]]),
            0.012,
        )
        inner = 0.84 - 0.22 * easel.spot(side * 1.03 * w, 0.0, 0.035, 0.13)
        head = _over(head, skin * (0.98, 0.90, 0.88) * inner[..., None], ear)

    face = easel.mask(face_outline(shape), 0.008)
    head = _over(head, _paint_skin(person, easel, face, rng), face)

    front = _front_hair(person, easel)
    if front is not None:
        # The hair's shadow on the forehead comes first.
        head[..., :3] *= (1 - 0.30 * blur(front, 0.09 * easel.unit) * (1 - front) * face)[..., None]
        head = _over(head, _hair_colour(person, easel, strands, depth=1.0), front)
    return head


def _paint_skin(person: Person, easel: Easel, face: Plane, rng: np.random.Generator) -> Plane:
    """The face's skin with its modelling: everything but eyes, brows and mouth."""
    shape, looks, scene = person.shape, person.looks, person.scene
    lx, ly = scene.light
    n, nl = shape.nose_width, shape.nose_length
    tip, base = 0.36 * nl, 0.49 * nl
    eye_x = EYE_X * shape.eye_spacing

    rounded = np.clip((blur(face, 0.30 * easel.unit) - 0.45) / 0.5, 0, 1)
    relief = -0.36 * (1 - rounded) ** 1.5
    relief += 0.13 * lx * np.tanh(1.4 * easel.x) + 0.07 * ly * np.tanh(easel.y)
    relief += 0.09 * easel.spot(0.15 * lx, -0.78, 0.48, 0.24)
    relief += 0.07 * easel.pair(0.55, 0.30, 0.20, 0.15)
    relief -= 0.26 * easel.pair(eye_x, EYE_Y - 0.08, 0.22, 0.10)
    relief -= 0.13 * easel.pair(eye_x, EYE_Y + 0.14, 0.20, 0.05)
    relief -= 0.20 * easel.pair(0.19, EYE_Y - 0.04, 0.075, 0.12)
    # The nose: bridge, sides, wings, tip, nostrils, and the shadow it throws.
    relief += 0.15 * easel.spot(0.02 * lx, 0.02, 0.065, 0.26) + 0.17 * easel.spot(0.03 * lx, tip, 0.10, 0.08)
    relief -= 0.10 * easel.pair(0.15 * n, 0.14, 0.05, 0.17)
    relief -= 0.10 * easel.spot(-0.20 * n * np.sign(lx), 0.26, 0.07, 0.16)
    relief -= 0.20 * easel.pair(0.235 * n, base - 0.05, 0.035, 0.065)
    relief += 0.05 * easel.pair(0.17 * n, base - 0.06, 0.05, 0.05)
    relief -= 0.24 * easel.spot(-0.04 * lx, base + 0.075, 0.19 * n, 0.045)
    relief -= 0.52 * easel.pair(0.10 * n, base + 0.025, 0.05, 0.024)
    # Philtrum, the hollow under the lip, chin, cheekbones, temples.
    relief -= 0.05 * easel.spot(0, 0.64, 0.035, 0.06)
    relief -= 0.15 * easel.spot(0, MOUTH_Y + 0.22, 0.20, 0.045)
    relief += 0.07 * easel.spot(0.05 * lx, 1.22, 0.18, 0.09)
    relief -= 0.07 * easel.pair(0.68, 0.62, 0.12, 0.26)
    relief -= 0.06 * easel.pair(0.86, -0.5, 0.10, 0.25)
    shade = np.clip(1 + scene.contrast * relief, 0.15, 1.35)[..., None]

    blush = 0.6 * easel.pair(0.56, 0.36, 0.20, 0.15) + 0.5 * easel.spot(0, tip, 0.12, 0.09)
    tint = 1 + blush[..., None] * np.array([0.03, -0.09, -0.07], np.float32)
    pores = blur(rng.standard_normal(face.shape).astype(np.float32), 0.012 * easel.unit)
    skin = np.array(looks.skin, np.float32) * shade * tint * (1 + 0.045 * pores[..., None])

    if shape.freckles:
        dots = blur((rng.random(face.shape) > 0.985).astype(np.float32), 0.012 * easel.unit)
        where = np.clip(easel.pair(0.45, 0.25, 0.25, 0.14) + easel.spot(0, 0.2, 0.2, 0.14), 0, 1)
        skin = skin * (1 - np.clip(dots * 5, 0, 0.5) * shape.freckles * where)[..., None]
    if shape.beard:
        stubble = np.clip(0.75 + 0.35 * _noise(easel, rng, 0.008), 0, 1)
        edge = 0.80 - 0.62 * np.clip(np.abs(easel.x), 0, 1) ** 1.5
        jaw = 1 / (1 + np.exp((edge - easel.y) / 0.06))
        lip = easel.spot(0, MOUTH_Y - 0.16, 0.28, 0.045)
        bare = 1 - np.clip(1.6 * easel.spot(0, MOUTH_Y, 0.25, 0.09), 0, 1)
        where = shape.beard * 0.75 * np.clip(jaw + lip, 0, 1) * bare * stubble
        skin = skin + (0.9 * np.array(looks.hair, np.float32) - skin) * where[..., None]
    return skin.astype(np.float32)


def _noise(easel: Easel, rng: np.random.Generator, grain: float) -> Plane:
    columns, rows = easel.size
    noise = blur(rng.standard_normal((rows, columns)).astype(np.float32), grain * easel.unit)
    return (noise / (noise.std() + 1e-6)).astype(np.float32)


def _strands(easel: Easel, rng: np.random.Generator, curly: bool) -> Plane:
    """Unit noise that runs along hair: streaks, or blobs where it is curly."""
    columns, rows = easel.size
    noise = rng.standard_normal((rows, columns)).astype(np.float32)
    across, along = (0.05, 0.05) if curly else (0.012, 0.22)
    streaks = cv2.GaussianBlur(noise, (0, 0), sigmaX=across * easel.unit, sigmaY=along * easel.unit)
    return np.asarray(streaks / streaks.std(), np.float32)


def _hair_colour(person: Person, easel: Easel, strands: Plane, depth: float) -> Plane:
    """Hair with streaks and a sheen where the light falls on it; `depth` darkens what lies behind."""
    lx, _ = person.scene.light
    sheen = easel.spot(0.35 * lx, -1.28, 0.6, 0.16) + 0.35 * easel.pair(1.05, -0.5, 0.12, 0.5)
    side = 0.10 * lx * np.tanh(easel.x)
    shade = depth * (0.86 + 0.10 * strands + side) + 0.42 * sheen * (0.8 + 0.25 * strands)
    base = np.array(person.looks.hair, np.float32)
    return (base * np.clip(shade, 0.3, 1.6)[..., None] + 14 * sheen[..., None]).astype(np.float32)


def _back_hair(person: Person, easel: Easel) -> Plane | None:
    """Hair that hangs behind face and neck."""
    w = person.shape.width
    match person.looks.style:
        case "long":
            right = [(0.0, -1.70), (0.75, -1.55), (1.17, -0.95), (1.25, -0.1), (1.22, 0.8), (1.28, 1.7), (1.2, 2.6), (0.0, 2.6)]
        case "bob":
            right = [(0.0, -1.72), (0.76, -1.58), (1.18, -1.0), (1.28, -0.2), (1.27, 0.55), (1.12, 1.05), (0.75, 1.18), (0.0, 1.2)]
        case "curly":
            angles = np.linspace(-0.5, np.pi + 0.5, 60)
            radius = 1.42 + 0.07 * np.sin(angles * 13)
            points = np.stack([radius * 0.98 * np.cos(angles) * w, -0.42 - radius * np.sin(angles)], 1)
            return easel.mask(points, 0.02)
        case "bun":
            angles = np.linspace(0, 2 * np.pi, 40)
            points = np.stack([0.42 * np.cos(angles), -1.68 + 0.36 * np.sin(angles)], 1)
            return easel.mask(points, 0.015)
        case _:
            return None
    return easel.mask(smooth_outline(mirrored([(x * w, y) for x, y in right])), 0.015)


def _front_hair(person: Person, easel: Easel) -> Plane | None:
    """Hair that lies over the skull, down to the hairline."""
    w = person.shape.width
    match person.looks.style:
        case "bald":
            return None
        case "buzz":
            outline = mirrored([(0.0, -1.53), (0.5, -1.46), (0.88, -1.10), (1.02, -0.6), (1.02, -0.20), (0.95, -0.22), (0.90, -0.62), (0.66, -0.98), (0.0, -1.04)])
            return easel.mask(smooth_outline([(x * w, y) for x, y in outline]), 0.035) * np.float32(0.82)
        case "short":
            outline = mirrored([(0.0, -1.68), (0.55, -1.60), (0.98, -1.22), (1.08, -0.6), (1.04, -0.08), (0.95, -0.12), (0.90, -0.55), (0.72, -0.88), (0.3, -1.00), (0.0, -0.96)])
        case "side":
            outline = [(0.45, -1.66), (0.95, -1.32), (1.08, -0.7), (1.04, -0.05), (0.95, -0.1), (0.92, -0.55), (0.84, -0.82), (0.45, -1.10), (-0.1, -0.98), (-0.6, -0.72), (-0.86, -0.45), (-0.95, -0.1), (-1.04, -0.05), (-1.10, -0.7), (-0.92, -1.36), (-0.4, -1.70)]
        case "swept":
            outline = [(0.5, -1.74), (1.02, -1.36), (1.10, -0.6), (1.03, 0.0), (0.95, -0.06), (0.91, -0.58), (0.62, -0.98), (0.1, -1.06), (-0.45, -0.98), (-0.84, -0.66), (-0.95, -0.06), (-1.03, 0.0), (-1.12, -0.7), (-0.9, -1.40), (-0.2, -1.80)]
        case "curly":
            angles = np.linspace(0.05, np.pi - 0.05, 50)
            outer = np.stack([(1.16 + 0.05 * np.sin(angles * 17)) * np.cos(angles), -0.45 - (1.28 + 0.05 * np.sin(angles * 17)) * np.sin(angles)], 1)
            inner = np.stack([(0.93 + 0.03 * np.sin(angles * 15)) * np.cos(angles), -0.42 - (0.58 + 0.03 * np.sin(angles * 15)) * np.sin(angles)], 1)
            return easel.mask(np.concatenate([outer, inner[::-1]]) * (w, 1.0), 0.012)
        case "long":
            outline = mirrored([(0.0, -1.64), (0.6, -1.58), (1.06, -1.12), (1.16, -0.3), (1.16, 0.7), (1.20, 1.5), (0.96, 1.45), (0.97, 0.5), (0.93, -0.30), (0.72, -0.82), (0.34, -1.05), (0.0, -1.20)])
        case "bob":
            outline = [(0.0, -1.70), (0.62, -1.62), (1.10, -1.15), (1.22, -0.3), (1.22, 0.5), (1.08, 1.0), (0.92, 0.85), (0.98, 0.3), (0.93, -0.3), (0.80, -0.72), (0.45, -0.98), (0.05, -1.08), (-0.30, -0.94), (-0.66, -0.72), (-0.90, -0.34), (-0.98, 0.3), (-0.92, 0.85), (-1.08, 1.0), (-1.22, 0.5), (-1.22, -0.3), (-1.10, -1.15), (-0.62, -1.62)]
        case "bun":
            outline = mirrored([(0.0, -1.60), (0.55, -1.54), (0.97, -1.16), (1.06, -0.55), (1.03, -0.12), (0.96, -0.16), (0.92, -0.52), (0.70, -0.94), (0.28, -1.10), (0.0, -1.13)])
    return easel.mask(smooth_outline([(x * w, y) for x, y in outline]), 0.014)


def _depth(easel: Easel) -> Plane:
    """How far the head stands out: an ellipsoid with a nose. Hair and ears at its rim hardly move when it turns."""
    ball = np.sqrt(np.clip(1.1 - np.square(easel.x / 1.12) - np.square((easel.y - 0.0) / 1.6), 0, 1))
    nose = 0.30 * easel.spot(0, 0.36, 0.13, 0.12) + 0.16 * easel.spot(0, 0.1, 0.12, 0.25)
    return blur((ball + nose).astype(np.float32), 0.06 * easel.unit)


def _paint_room(person: Person, size: tuple[int, int], rng: np.random.Generator) -> Picture:
    """What is behind: out of focus, lighter on the side the light comes from."""
    width, height = size
    scene = person.scene
    x, y = np.meshgrid((np.arange(width) + 0.5) / width - 0.5, (np.arange(height) + 0.5) / height - 0.5)
    room = np.broadcast_to(np.array(scene.wall, np.float32), (height, width, 3)).astype(np.float32).copy()
    accent = np.array(scene.accent, np.float32)
    if scene.backdrop == "shelf":
        for level in (0.18, 0.52, 0.86):
            bottom, at = int(level * height), 0.02 * width
            while at < 0.98 * width:
                thick, tall = rng.uniform(0.015, 0.04) * width, rng.uniform(0.13, 0.24) * height
                tone = accent * rng.uniform(0.55, 1.15) + rng.normal(0, 16, 3)
                if rng.random() > 0.22:
                    room[max(0, int(bottom - tall)) : bottom, int(at) : int(at + thick)] = tone
                at += thick
            room[bottom : bottom + max(2, height // 60)] = accent * 0.6
    elif scene.backdrop == "window":
        left = rng.uniform(0.02, 0.12) if rng.random() < 0.5 else rng.uniform(0.62, 0.72)
        a, b = int(left * width), int((left + 0.26) * width)
        c, d = int(0.06 * height), int(0.62 * height)
        room[c:d, a:b] = (226, 234, 240)
        room[(c + d) // 2 - height // 80 : (c + d) // 2 + height // 80, a:b] = accent
        room[c:d, (a + b) // 2 - width // 130 : (a + b) // 2 + width // 130] = accent
    elif scene.backdrop == "panels":
        stripe = (np.floor((x + 0.5) * 9) % 2)[..., None]
        room = (room * (1 - 0.10 * stripe)).astype(np.float32)
    lx, ly = scene.light
    fall = 1 + 0.22 * (lx * x + ly * y) - 0.35 * (x**2 + y**2)
    room = np.asarray(cv2.GaussianBlur(room, (0, 0), height * 0.016), np.float32)
    return _to_picture(room * fall[..., None])


def _paint_torso(person: Person, size: tuple[int, int]) -> Picture:
    """Shoulders and collar, in front of the neck: RGB and coverage."""
    width, height = size
    scene = person.scene
    unit = scene.scale * height
    cx, cy = scene.centre[0] * width, scene.centre[1] * height
    broad = 0.92 + 0.12 * person.shape.jaw
    right = [(0.42, 1.86), (0.62, 1.72), (1.30 * broad, 1.92), (1.95 * broad, 2.20), (2.20 * broad, 2.9), (2.25 * broad, 4.5), (0.0, 4.5)]
    half = smooth_outline(mirrored([(0.0, 2.12), *right]))
    points = half * unit + (cx, cy)
    cover = np.zeros((height, width), np.uint8)
    cv2.fillPoly(cover, [np.round(points * 32).astype(np.int32)], 255, cv2.LINE_AA, _SHIFT)
    soft = blur(cover.astype(np.float32) / 255, 0.01 * unit)
    y = ((np.arange(height) - cy) / unit)[:, None]
    x = ((np.arange(width) - cx) / unit)[None, :]
    shade = 0.95 + 0.10 * scene.light[0] * np.tanh(x) - 0.10 * (y - 2.0) - 0.35 * (1 - blur(soft, 0.18 * unit))
    shade = shade - 0.25 * np.exp(-0.5 * (np.square(x / 0.6) + np.square((y - 1.95) / 0.14)))
    collar = np.exp(-0.5 * np.square((np.hypot(x / 0.75, (y - 1.62) / 0.5) - 1.12) / 0.025))
    shade = shade - 0.16 * collar
    shirt = np.array(person.looks.shirt, np.float32) * np.clip(shade, 0.2, 1.3)[..., None]
    return _to_picture(np.dstack([shirt, soft * 255]))


def _light_table(person: Person) -> Picture:
    """Painted to photographed colours: exposure, warmth, and a gentle shoulder."""
    scene = person.scene
    tone = np.arange(256) / 255 * scene.exposure
    tone = np.where(tone > 0.85, 0.85 + 0.15 * np.tanh((tone - 0.85) / 0.15), tone)
    gains = np.array([1 + scene.warmth, 1.0, 1 - scene.warmth])
    return _to_picture(tone[:, None, None] * gains * 255)
