"""Hair in its styles: outlines in head units, streaks and sheen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from offline.performer.canvas import Easel, Plane, Points, as_plane, mirrored, outline, smooth

if TYPE_CHECKING:
    from offline.performer.person import HairStyle, Person

# Right halves, top to bottom, of what hangs behind face and neck.
_BEHIND: Final[dict[HairStyle, str]] = {
    "long": "0,-1.70 0.75,-1.55 1.17,-0.95 1.25,-0.1 1.22,0.8 1.28,1.7 1.2,2.6 0,2.6",
    "bob": "0,-1.72 0.76,-1.58 1.18,-1.0 1.28,-0.2 1.27,0.55 1.12,1.05 0.75,1.18 0,1.2",
}

# Right halves of what lies over the skull, down to the hairline.
_OVER: Final[dict[HairStyle, str]] = {
    "buzz": "0,-1.53 0.5,-1.46 0.88,-1.10 1.02,-0.6 1.02,-0.20 0.95,-0.22 0.90,-0.62 0.66,-0.98 0,-1.04",
    "short": "0,-1.68 0.55,-1.60 0.98,-1.22 1.08,-0.6 1.04,-0.08 0.95,-0.12 0.90,-0.55 0.72,-0.88 0.3,-1.00 0,-0.96",
    "long": "0,-1.64 0.6,-1.58 1.06,-1.12 1.16,-0.3 1.16,0.7 1.20,1.5 0.96,1.45 0.97,0.5 0.93,-0.30 0.72,-0.82 "
    "0.34,-1.05 0,-1.20",
    "bun": "0,-1.60 0.55,-1.54 0.97,-1.16 1.06,-0.55 1.03,-0.12 0.96,-0.16 0.92,-0.52 0.70,-0.94 0.28,-1.10 0,-1.13",
}

# The same for styles that are not symmetric, all around.
_OVER_ASKEW: Final[dict[HairStyle, str]] = {
    "side": "0.45,-1.66 0.95,-1.32 1.08,-0.7 1.04,-0.05 0.95,-0.1 0.92,-0.55 0.84,-0.82 0.45,-1.10 -0.1,-0.98 "
    "-0.6,-0.72 -0.86,-0.45 -0.95,-0.1 -1.04,-0.05 -1.10,-0.7 -0.92,-1.36 -0.4,-1.70",
    "swept": "0.5,-1.74 1.02,-1.36 1.10,-0.6 1.03,0.0 0.95,-0.06 0.91,-0.58 0.62,-0.98 0.1,-1.06 -0.45,-0.98 "
    "-0.84,-0.66 -0.95,-0.06 -1.03,0.0 -1.12,-0.7 -0.9,-1.40 -0.2,-1.80",
    "bob": "0.0,-1.70 0.62,-1.62 1.10,-1.15 1.22,-0.3 1.22,0.5 1.08,1.0 0.92,0.85 0.98,0.3 0.93,-0.3 0.80,-0.72 "
    "0.45,-0.98 0.05,-1.08 -0.30,-0.94 -0.66,-0.72 -0.90,-0.34 -0.98,0.3 -0.92,0.85 -1.08,1.0 -1.22,0.5 "
    "-1.22,-0.3 -1.10,-1.15 -0.62,-1.62",
}


def hair_behind(person: Person, easel: Easel) -> Plane | None:
    """Coverage of the hair that hangs behind face and neck."""
    style, width = person.looks.style, person.shape.width
    if style == "curly":
        return easel.mask(_curls(1.42, 0.07, 13, (-0.5, np.pi + 0.5), -0.42) * (0.98 * width, 1), 0.02)
    if style == "bun":
        angles = np.linspace(0, 2 * np.pi, 40)
        return easel.mask(np.stack([0.42 * np.cos(angles), -1.68 + 0.36 * np.sin(angles)], 1), 0.015)
    if style not in _BEHIND:
        return None
    return easel.mask(smooth(mirrored(outline(_BEHIND[style]))) * (width, 1), 0.015)


def hair_over(person: Person, easel: Easel) -> Plane | None:
    """Coverage of the hair that lies over the skull."""
    style, width = person.looks.style, person.shape.width
    if style == "bald":
        return None
    if style == "curly":
        outer = _curls(1.0, 0.04, 17, (0.05, np.pi - 0.05), 0) * (1.16, 1.28) + (0, -0.45)
        inner = _curls(1.0, 0.04, 15, (0.05, np.pi - 0.05), 0) * (0.93, 0.58) + (0, -0.42)
        return easel.mask(np.concatenate([outer, inner[::-1]]) * (width, 1), 0.012)
    around = outline(_OVER_ASKEW[style]) if style in _OVER_ASKEW else mirrored(outline(_OVER[style]))
    cropped = style == "buzz"
    mask = easel.mask(smooth(around) * (width, 1), 0.035 if cropped else 0.014)
    # Cropped hair lets the skin through.
    return as_plane(mask * 0.82) if cropped else mask


def _curls(radius: float, wave: float, count: int, span: tuple[float, float], middle_y: float) -> Points:
    """A wavy arc around the skull."""
    angles = np.linspace(*span, 60)
    r = radius + wave * np.sin(angles * count)
    return np.stack([r * np.cos(angles), middle_y - r * np.sin(angles)], 1)


def streaks(easel: Easel, rng: np.random.Generator, style: HairStyle) -> Plane:
    """Unit noise that runs along hair: streaks, or blobs where it is curly."""
    return easel.noise(rng, 0.05, 0.05) if style == "curly" else easel.noise(rng, 0.012, 0.22)


def hair_colour(person: Person, easel: Easel, strands: Plane, depth: float) -> Plane:
    """Hair (rows, columns, 3) with streaks and a sheen where the light falls; `depth` darkens what lies behind."""
    lx, _ = person.scene.light
    sheen = easel.spot(0.35 * lx, -1.28, 0.6, 0.16) + 0.35 * easel.pair(1.05, -0.5, 0.12, 0.5)
    shade = depth * (0.86 + 0.10 * strands + 0.10 * lx * np.tanh(easel.x)) + 0.42 * sheen * (
        0.8 + 0.25 * strands
    )
    base = np.array(person.looks.hair, np.float32)
    return as_plane(base * np.clip(shade, 0.3, 1.6)[..., None] + 14 * sheen[..., None])
