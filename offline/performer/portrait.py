"""What of a person does not change: the painted head, the room behind, the shoulders in front.

Painted once for each person, in floating point with soft shading.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from offline.performer.canvas import (
    EYE_X,
    EYE_Y,
    MOUTH_Y,
    Easel,
    Picture,
    Plane,
    Points,
    as_plane,
    blur,
    lay_over,
    mirrored,
    outline,
    smooth,
    to_picture,
)
from offline.performer.hair import hair_behind, hair_colour, hair_over, streaks
from offline.performer.room import light_table, paint_room, paint_torso

if TYPE_CHECKING:
    from offline.performer.person import FaceShape, Person

_EAR: Final = outline("0.93,-0.22 1.05,-0.28 1.13,-0.14 1.10,0.12 1.02,0.30 0.93,0.26")


@dataclass(frozen=True)
class Portrait:
    """The static layers of one person.

    `head` (rows, columns, 4): RGB, already multiplied by coverage, and coverage, at `unit` pixels to a head unit.
    `depth` (rows, columns): how far the surface stands out, in head units, for turning the head. `room` and `torso`
    are picture-sized, the torso with coverage. `light` (256, 1, 3) is the look-up table from painted to
    photographed colours.
    """

    head: Picture
    depth: Plane
    unit: float
    room: Picture
    torso: Picture
    light: Picture


def paint_portrait(person: Person, unit: float, size: tuple[int, int]) -> Portrait:
    """All layers of a person, for pictures of `size` (width, height) and a head painted at `unit` pixels a unit."""
    easel = Easel(unit)
    rng = np.random.default_rng([person.seed, 2])
    return Portrait(
        head=to_picture(_paint_head(person, easel, rng)),
        depth=_depth(easel),
        unit=unit,
        room=paint_room(person, size, rng),
        torso=paint_torso(person, size),
        light=light_table(person),
    )


def face_outline(shape: FaceShape) -> Points:
    """The face's edge, from the top of the skull to the chin."""
    right = outline(
        "0,-1.48 0.48,-1.40 0.84,-1.08 0.98,-0.60 1.0,-0.10 0.96,0.35 0.80,0.78 0.52,1.13 0.22,1.36 0,1.43"
    )
    right[6:9, 0] += shape.jaw * np.array([0.10, 0.13, 0.10])
    return smooth(mirrored(right * (shape.width, 1)))


def _paint_head(person: Person, easel: Easel, rng: np.random.Generator) -> Plane:
    """The head (rows, columns, 4), 0 to 255, coverage last: hair at the back, neck, ears, face, hair at the front."""
    shape, looks, light = person.shape, person.looks, person.scene.light
    columns, rows = easel.size
    skin = np.array(looks.skin, np.float32)
    head = np.zeros((rows, columns, 4), np.float32)
    strands = streaks(easel, rng, looks.style)

    back = hair_behind(person, easel)
    if back is not None:
        head = lay_over(head, hair_colour(person, easel, strands, depth=0.62), back)

    w = shape.width
    thick = 0.50 + 0.16 * shape.jaw
    neck_edge = outline(f"0,0.7 {thick},0.75 {thick},1.7 1.1,2.3 1.2,2.6 0,2.6")
    neck = easel.mask(smooth(mirrored(neck_edge)), 0.01)
    throat = 0.80 - 0.34 * easel.spot(0, 1.42, 0.62, 0.22) + 0.04 * easel.spot(light[0] * 0.4, 1.9, 0.3, 0.5)
    head = lay_over(head, skin * throat[..., None], neck)

    for side in (-1, 1):
        ear = easel.mask(smooth(_EAR * (side * w, 1)), 0.012)
        inner = 0.84 - 0.22 * easel.spot(side * 1.03 * w, 0.0, 0.035, 0.13)
        head = lay_over(head, skin * (0.98, 0.90, 0.88) * inner[..., None], ear)

    face = easel.mask(face_outline(shape), 0.008)
    head = lay_over(head, _paint_skin(person, easel, face, rng), face)

    front = hair_over(person, easel)
    if front is not None:
        # The hair's shadow on the forehead comes first.
        head[..., :3] *= (1 - 0.30 * blur(front, 0.09 * easel.unit) * (1 - front) * face)[..., None]
        head = lay_over(head, hair_colour(person, easel, strands, depth=1.0), front)
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
    pores = easel.noise(rng, 0.012, 0.012)
    skin = np.array(looks.skin, np.float32) * shade * tint * (1 + 0.010 * pores[..., None])

    if shape.freckles:
        dots = blur(as_plane(rng.random(face.shape) > 0.985), 0.012 * easel.unit)
        where = np.clip(easel.pair(0.45, 0.25, 0.25, 0.14) + easel.spot(0, 0.2, 0.2, 0.14), 0, 1)
        skin = skin * (1 - np.clip(dots * 5, 0, 0.5) * shape.freckles * where)[..., None]
    if shape.beard:
        stubble = np.clip(0.75 + 0.35 * easel.noise(rng, 0.008, 0.008), 0, 1)
        edge = 0.80 - 0.62 * np.clip(np.abs(easel.x), 0, 1) ** 1.5
        jaw = 1 / (1 + np.exp((edge - easel.y) / 0.06))
        lip = easel.spot(0, MOUTH_Y - 0.16, 0.28, 0.045)
        bare = 1 - np.clip(1.6 * easel.spot(0, MOUTH_Y, 0.25, 0.09), 0, 1)
        where = shape.beard * 0.75 * np.clip(jaw + lip, 0, 1) * bare * stubble
        skin = skin + (0.9 * np.array(looks.hair, np.float32) - skin) * where[..., None]
    return as_plane(skin)


def _depth(easel: Easel) -> Plane:
    """How far the head stands out: an ellipsoid with a nose. Hair and ears at its rim hardly move when it turns."""
    ball = np.sqrt(np.clip(1.1 - np.square(easel.x / 1.12) - np.square(easel.y / 1.6), 0, 1))
    nose = 0.30 * easel.spot(0, 0.36, 0.13, 0.12) + 0.16 * easel.spot(0, 0.1, 0.12, 0.25)
    return blur(as_plane(ball + nose), 0.06 * easel.unit)
