"""The same face before another camera: framed otherwise, in other light, out of focus, partly hidden, talking. Pure.

Batches of tensors; a batch's chances come from one torch generator. Pictures are grey, (N, s, s) float32 in [0, 1];
places are in their pixels, the top left corner being (0, 0).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from models.spec import CropSpec


@dataclass(frozen=True)
class FaceAugmentation:
    """How far each change may go: half-widths of uniform draws, or shares of the pictures."""

    turn_degrees: float = 12.0
    log_scale: float = 0.19
    """Of the square's side, in its logarithm. This and the shift cover by how much Haar's squares scatter around
    YuNet's (standard deviations 0.108 and, of the side, 0.049 and 0.036, on FER+)."""
    shift: float = 0.08
    """Of the square's side, along either axis."""
    log_gamma: float = 0.35
    log_contrast: float = 0.35
    brightness: float = 0.15
    shade: float = 0.25
    """A ramp of light across the face, from edge to edge."""
    refocused_share: float = 0.4
    """Blurred or sharpened."""
    coarse_share: float = 0.1
    """Shrunk and enlarged again."""
    noise: float = 0.04
    """The greatest standard deviation."""
    hidden_share: float = 0.2
    """With a patch of one shade over them."""


def draw_uniform(low: float, high: float, count: int, random: torch.Generator) -> Tensor:
    """(count,) numbers between `low` and `high`."""
    return low + (high - low) * torch.rand(count, generator=random)


def draw_chance(share: float, count: int, random: torch.Generator) -> Tensor:
    """(count,) truth values, each true so often."""
    return torch.rand(count, generator=random) < share


def crop_centred(pictures: Tensor, squares: Tensor, spec: CropSpec) -> Tensor:
    """The crops (N, input_size, input_size) that the network sees of `squares` (N, 3: x, y, side), unchanged."""
    x, y = pixel_centres(spec.input_size)
    step = per_picture(squares[:, 2] / spec.stored_size)
    middle = spec.input_size / 2
    across, down = (x - middle) * step, (y - middle) * step
    return sample(pictures, across + per_picture(squares[:, 0]), down + per_picture(squares[:, 1]))


def crop_augmented(
    pictures: Tensor, squares: Tensor, spec: CropSpec, how: FaceAugmentation, random: torch.Generator
) -> Tensor:
    """Crops (N, input_size, input_size) of `squares`, each under changes of its own."""
    crops = _crop_moved(pictures, squares, spec, how, random)
    return _hide_patch(_refocus(_relight(crops, how, random), how, random), how, random)


def sample(pictures: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Pictures at places (N, H, W), bilinear; their edges are continued."""
    grid = torch.stack([x, y], dim=-1) * (2 / pictures.shape[-1]) - 1
    picked = functional.grid_sample(pictures[:, None], grid, padding_mode="border", align_corners=False)
    return picked[:, 0]


def _crop_moved(
    pictures: Tensor, squares: Tensor, spec: CropSpec, how: FaceAugmentation, random: torch.Generator
) -> Tensor:
    """The middle of each square, turned, scaled, shifted, mirrored."""
    count = len(pictures)
    turn = torch.deg2rad(draw_uniform(-how.turn_degrees, how.turn_degrees, count, random))
    side = squares[:, 2] * draw_uniform(-how.log_scale, how.log_scale, count, random).exp()
    moved = draw_uniform(-how.shift, how.shift, 2 * count, random).view(count, 2) * squares[:, 2:]
    step = side / spec.stored_size
    mirror = torch.where(draw_chance(0.5, count, random), -1.0, 1.0)
    x, y = pixel_centres(spec.input_size)
    x, y = x - spec.input_size / 2, y - spec.input_size / 2
    x, y = x * per_picture(mirror * step), y * per_picture(step)
    cos, sin = per_picture(turn.cos()), per_picture(turn.sin())
    centre = squares[:, :2] + moved
    across = cos * x - sin * y + per_picture(centre[:, 0])
    return sample(pictures, across, sin * x + cos * y + per_picture(centre[:, 1]))


def _relight(crops: Tensor, how: FaceAugmentation, random: torch.Generator) -> Tensor:
    """In other light, through another camera's tone curve."""
    count, side = len(crops), crops.shape[-1]
    gamma = draw_uniform(-how.log_gamma, how.log_gamma, count, random).exp()
    crops = crops.clamp_min(1e-3) ** per_picture(gamma)
    gain = draw_uniform(-how.log_contrast, how.log_contrast, count, random).exp()
    mean = crops.mean(dim=(1, 2), keepdim=True)
    offset = draw_uniform(-how.brightness, how.brightness, count, random)
    angle = draw_uniform(0, 2 * torch.pi, count, random)
    steepness = draw_uniform(0, how.shade, count, random) / side
    x, y = pixel_centres(side)
    right, down = per_picture(angle.cos() * steepness), per_picture(angle.sin() * steepness)
    ramp = (x - side / 2) * right + (y - side / 2) * down
    return ((crops - mean) * per_picture(gain) + mean + per_picture(offset) + ramp).clamp(0, 1)


def _refocus(crops: Tensor, how: FaceAugmentation, random: torch.Generator) -> Tensor:
    """Blurred or sharpened, of fewer pixels, noisy."""
    count, side = len(crops), crops.shape[-1]
    kernel = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    padded = functional.pad(crops[:, None], (2, 2, 2, 2), mode="replicate")
    soft = functional.conv2d(padded, kernel.view(1, 1, 1, 5))
    soft = functional.conv2d(soft, kernel.view(1, 1, 5, 1))[:, 0]
    amount = draw_uniform(-0.7, 1.0, count, random) * draw_chance(how.refocused_share, count, random)
    crops = crops + (soft - crops) * per_picture(amount)
    coarse = draw_chance(how.coarse_share, count, random)
    if coarse.any():
        fewer = int(torch.randint(round(0.45 * side), round(0.85 * side), (1,), generator=random))
        small = functional.interpolate(crops[coarse][:, None], (fewer, fewer), mode="area")
        crops[coarse] = functional.interpolate(small, (side, side), mode="bilinear")[:, 0]
    strength = draw_uniform(0, how.noise, count, random) * draw_chance(0.6, count, random)
    noise = torch.randn(crops.shape, generator=random)
    return (crops + noise * per_picture(strength)).clamp(0, 1)


def _hide_patch(crops: Tensor, how: FaceAugmentation, random: torch.Generator) -> Tensor:
    """A rectangle of one shade over some."""
    count, side = len(crops), crops.shape[-1]
    x, y = pixel_centres(side)
    middle_x, middle_y = (per_picture(draw_uniform(0, side, count, random)) for _ in range(2))
    half_x, half_y = (per_picture(draw_uniform(side / 20, side / 5, count, random)) for _ in range(2))
    inside = ((x - middle_x).abs() < half_x) & ((y - middle_y).abs() < half_y)
    inside &= per_picture(draw_chance(how.hidden_share, count, random))
    return torch.where(inside, per_picture(draw_uniform(0, 1, count, random)), crops)


def pixel_centres(side: int) -> tuple[Tensor, Tensor]:
    """X and y of the centres of a picture's pixels, (side, side) each."""
    line = torch.arange(side, dtype=torch.float32) + 0.5
    y, x = torch.meshgrid(line, line, indexing="ij")
    return x, y


def per_picture(values: Tensor) -> Tensor:
    """(N,) to (N, 1, 1)."""
    return values[:, None, None]
