"""Mouths opened as if speaking, and mouths taken from other faces: what an open mouth alone says must not decide what
a face says. Pure; tensors as in `face_augmentation`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from offline.people.face_augmentation import draw_chance, draw_uniform, per_picture, pixel_centres, sample

_EDGE: Final = 0.05
"""How soft the edges of what is drawn are, in distances of the eyes."""


@dataclass(frozen=True, eq=False)
class FaceAxes:
    """N faces' own axes: the origin is the middle of the mouth (`x`, `y`), one unit to the right is (`right_x`,
    `right_y`) pixels, and `mouth_width` is in units; (N,) each.

    The unit is the distance of the eyes, or of eyes and mouth where the head is turned and that is greater.
    """

    x: Tensor
    y: Tensor
    right_x: Tensor
    right_y: Tensor
    mouth_width: Tensor

    @classmethod
    def from_landmarks(cls, landmarks: Tensor) -> FaceAxes:
        """Of landmarks (N, 5, 2) as `models.visual.detectors.Face` has them."""
        eyes, mouth = landmarks[:, :2].mean(dim=1), landmarks[:, 3:].mean(dim=1)
        right = landmarks[:, 1] - landmarks[:, 0]
        # Eyes in one place have no direction: such a face is taken as upright.
        right = torch.where(right.norm(dim=1, keepdim=True) < 1e-3, torch.tensor([1.0, 0.0]), right)
        apart = right.norm(dim=1).clamp_min(1)
        unit = torch.maximum(apart, 0.95 * (mouth - eyes).norm(dim=1)).clamp_min(6)
        right = right * (unit / apart)[:, None]
        width = (landmarks[:, 4] - landmarks[:, 3]).norm(dim=1) / unit
        return cls(mouth[:, 0], mouth[:, 1], right[:, 0], right[:, 1], width.clamp(0.4, 1.2))

    def from_pixels(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels (H, W) to (across, below) in units, (N, H, W) each."""
        dx, dy = x - per_picture(self.x), y - per_picture(self.y)
        unit = per_picture(self.right_x**2 + self.right_y**2)
        across = (dx * per_picture(self.right_x) + dy * per_picture(self.right_y)) / unit
        below = (dy * per_picture(self.right_x) - dx * per_picture(self.right_y)) / unit
        return across, below

    def to_pixels(self, across: Tensor, below: Tensor) -> tuple[Tensor, Tensor]:
        """The reverse of `from_pixels`."""
        x = per_picture(self.x) + across * per_picture(self.right_x) - below * per_picture(self.right_y)
        y = per_picture(self.y) + across * per_picture(self.right_y) + below * per_picture(self.right_x)
        return x, y


def open_mouths(pictures: Tensor, landmarks: Tensor, random: torch.Generator) -> Tensor:
    """Each face with its jaw lower, a dark gap between the lips, and at times teeth in it."""
    count = len(pictures)
    axes = FaceAxes.from_landmarks(landmarks)
    across, below = axes.from_pixels(*pixel_centres(pictures.shape[-1]))
    gap = per_picture(draw_uniform(0.1, 0.42, count, random))
    half = per_picture(axes.mouth_width / 2 * draw_uniform(0.45, 1.0, count, random))
    line = per_picture(draw_uniform(-0.06, 0.06, count, random))
    rise = per_picture(draw_uniform(0.1, 0.35, count, random))
    opening = gap * (1 - (across / half).square()).clamp_min(0).sqrt()
    depth = below - line
    # How far from its own place each pixel's source lies: the jaw falls as one, the upper lip gives a little.
    fall = torch.exp(-(across / (1.3 * half)).square()) * gap
    lower = (1 - rise) * fall * torch.exp(-(depth / 0.9).square())
    upper = rise * fall * torch.exp(-(depth / 0.3).square())
    source = torch.where(depth > 0, (depth - lower).clamp_min(0), (depth + upper).clamp_max(0))
    warped = sample(pictures, *axes.to_pixels(across, source + line))
    top, bottom = -rise * opening, (1 - rise) * opening
    inside = torch.sigmoid((depth - top) / _EDGE) * torch.sigmoid((bottom - depth) / _EDGE)
    inside = inside * (opening > 0.03) * (inside > 0.05)
    near = torch.exp(-(across.square() + below.square()) / 0.5)
    skin = per_picture((pictures * near).sum(dim=(1, 2)) / near.sum(dim=(1, 2)))
    dark = skin * per_picture(draw_uniform(0.15, 0.6, count, random))
    bright = skin * per_picture(draw_uniform(0.9, 1.4, count, random))
    shown = draw_uniform(0.0, 1.0, count, random) * draw_chance(0.6, count, random)
    teeth_end = top + opening * per_picture(shown)
    teeth = torch.sigmoid((teeth_end - depth) / _EDGE) * (opening > 0.03)
    filling = dark + (bright - dark) * teeth * (teeth_end > top)
    return (warped + (filling - warped) * inside).clamp(0, 1)


def swap_mouths(
    pictures: Tensor, landmarks: Tensor, donors: Tensor, donor_landmarks: Tensor, random: torch.Generator
) -> Tensor:
    """Each face with the mouth of a donor (N, s, s) in place of its own, at its own size and in its own light."""
    count = len(pictures)
    axes, donor_axes = FaceAxes.from_landmarks(landmarks), FaceAxes.from_landmarks(donor_landmarks)
    across, below = axes.from_pixels(*pixel_centres(pictures.shape[-1]))
    stretch = per_picture(draw_uniform(0.85, 1.15, count, random))
    taken = sample(donors, *donor_axes.to_pixels(across * stretch, below))
    reach = 0.5 + 0.12 * draw_uniform(-1, 1, count, random)
    distance = ((across / 0.62).square() + ((below - 0.12) / per_picture(reach)).square()).sqrt()
    mask = torch.sigmoid((1 - distance) / 0.1) * torch.sigmoid((below + 0.34) / _EDGE)
    seam = mask * (1 - mask)
    (mean, spread), (donor_mean, donor_spread) = _tone(pictures, seam), _tone(taken, seam)
    taken = (taken - donor_mean) * (spread / donor_spread).clamp(0.6, 1.6) + mean
    return (pictures + (taken - pictures) * mask).clamp(0, 1)


def _tone(pictures: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (N, 1, 1) under weights; the deviation is held above zero."""
    total = weights.sum(dim=(1, 2)).clamp_min(1e-3)
    mean = per_picture((pictures * weights).sum(dim=(1, 2)) / total)
    spread = ((pictures - mean).square() * weights).sum(dim=(1, 2)) / total
    return mean, per_picture(spread.sqrt() + 0.03)
