"""Valence and arousal over time: smooth random ones, composed ones, and their file form."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.labels import HEADER

if TYPE_CHECKING:
    from collections.abc import Sequence

Series = NDArray[np.float64]


def wander(
    rng: np.random.Generator, frames: int, frame_rate: float, *, time_constant_s: float, spread: float = 1.0
) -> Series:
    """A smooth stationary random series (frames,): an Ornstein-Uhlenbeck process, low-passed once more.

    Mean 0, standard deviation `spread`; it forgets where it was in about `time_constant_s` seconds. The first
    sample is already stationary, so a short series is as spread out as a long one.
    """
    keep = float(np.exp(-1.0 / (time_constant_s * frame_rate)))
    smooth = float(np.exp(-4.0 / (time_constant_s * frame_rate)))
    settle = round(5 * time_constant_s * frame_rate)
    noise = rng.standard_normal(frames + settle)
    out = np.empty(frames + settle)
    fast = slow = 0.0
    for i, x in enumerate(noise):
        fast = keep * fast + x
        slow = smooth * slow + (1 - smooth) * fast
        out[i] = slow
    # Standard deviation of the cascade of both filters (white noise in).
    response = (1 - smooth) ** 2 * (1 + keep * smooth)
    variance = response / ((1 - keep**2) * (1 - smooth**2) * (1 - keep * smooth))
    wandered: Series = out[settle:] * (spread / np.sqrt(variance))
    return wandered


def random_trajectory(
    rng: np.random.Generator, frames: int, frame_rate: float, *, time_constant_s: float = 7.0
) -> Series:
    """A performance's (frames, 2) valence and arousal in [-1, 1]: two wandering series, loosely coupled.

    Arousal shares a little with the strength of valence, as in people (Kuppens et al. 2013), and both are
    squashed so that they use the whole range.
    """
    valence = wander(rng, frames, frame_rate, time_constant_s=time_constant_s)
    own = wander(rng, frames, frame_rate, time_constant_s=time_constant_s)
    arousal = 0.95 * own + 0.3 * (np.abs(valence) - 0.8)
    trajectory: Series = np.tanh(0.85 * np.stack([valence, arousal], axis=1))
    return trajectory


def composed_trajectory(
    knots: Sequence[tuple[float, float, float]], frames: int, frame_rate: float
) -> Series:
    """A (frames, 2) trajectory through knots (time_s, valence, arousal), held before the first and after the last.

    Between knots it moves along half a cosine, so it never leaves [-1, 1] where its knots do not.
    """
    times = np.array([k[0] for k in knots])
    values = np.array([k[1:] for k in knots])
    if len(times) < 2 or np.any(np.diff(times) <= 0):
        raise ValueError("a composed trajectory needs two knots or more, in rising order of time")
    at = np.clip(np.arange(frames) / frame_rate, times[0], times[-1])
    right = np.clip(np.searchsorted(times, at, side="right"), 1, len(times) - 1)
    part = (at - times[right - 1]) / (times[right] - times[right - 1])
    weight = 0.5 - 0.5 * np.cos(np.pi * part)
    composed: Series = values[right - 1] + weight[:, None] * (values[right] - values[right - 1])
    return composed


def to_text(trajectory: Series) -> str:
    """The label file of Aff-Wild2: its header, then one `valence,arousal` row per video frame."""
    rows = (f"{v:.6f},{a:.6f}\n" for v, a in trajectory)
    return HEADER + "\n" + "".join(rows)
