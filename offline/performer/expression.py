"""From what a face shows (valence and arousal) to its muscles and movements, frame by frame. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from offline.performer.facial_features import Pose
from offline.performer.trajectory import Series, wander

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from offline.performer.person import Habits


def express(
    shown: Series, loudness: NDArray[np.float64], habits: Habits, rng: np.random.Generator, frame_rate: float
) -> list[Pose]:
    """One pose for each frame.

    `shown` (frames, 2) is the valence and arousal that reach the face; `loudness` (frames,) the speech of each
    frame, 0 silent to about 1 loud. Valence sits in the mouth and, where it is negative, in the brows; arousal
    in the eyes' opening, the brows' height, and in how far and how fast the head moves.
    """
    frames = len(shown)
    valence = np.clip(shown[:, 0] + habits.smile_bias, -1.1, 1.1)
    arousal = np.clip(shown[:, 1] + habits.eye_bias, -1.1, 1.1)
    pleased, hurt = np.maximum(valence, 0), np.maximum(-valence, 0)
    frown = hurt * np.clip(0.55 + 0.65 * arousal, 0, 1.1)
    grieve = hurt * np.clip(0.50 - 0.70 * arousal, 0, 1)
    lids = 1 + 0.36 * arousal - 0.10 * grieve
    gaze = _gaze(rng, frames, frame_rate)
    moved = _head_motion(rng, arousal, habits, frame_rate)
    spoken = _follow(loudness, rise=0.75, fall=0.45)
    beat = _follow(loudness, rise=0.15, fall=0.08)
    columns = {
        "smile": valence,
        "jaw": 0.75 * spoken**0.8 + 0.10 * np.maximum(arousal - 0.4, 0) * pleased,
        "round": 0.5 * np.clip(_wander(rng, frames, frame_rate, 0.25), 0, 1) * np.minimum(spoken * 3, 1),
        "raise_brows": 0.55 * arousal - 0.35 * frown + 0.12 * pleased + 0.15 * beat,
        "frown": frown,
        "grieve": grieve,
        "lids": np.clip(lids, 0.45, 1.6) * _blinks(rng, arousal, habits, frame_rate),
        "squint": 0.6 * pleased**1.5 + 0.35 * frown,
        "gaze_x": gaze[:, 0],
        "gaze_y": gaze[:, 1] + 0.4 * grieve,
        "yaw": moved[:, 0],
        "nod": moved[:, 1] + 0.07 * np.maximum(-arousal, 0) * (0.4 + hurt) + 0.06 * beat,
        "tilt": moved[:, 2],
        "x": moved[:, 3],
        "y": moved[:, 4] + 0.02 * beat,
    }
    table = np.stack([columns[name] for name in Pose._fields], axis=1)
    return [Pose(*row) for row in table.tolist()]


def _wander(rng: np.random.Generator, frames: int, frame_rate: float, time_constant_s: float) -> Series:
    return np.clip(wander(rng, frames, frame_rate, time_constant_s=time_constant_s), -2.2, 2.2)


def _head_motion(rng: np.random.Generator, arousal: Series, habits: Habits, frame_rate: float) -> Series:
    """Yaw, nod, tilt (radians) and shifts x, y (head units), (frames, 5): sways as far and fast as arousal has it."""
    frames = len(arousal)
    lively = np.clip(0.5 + 0.5 * arousal, 0, 1.05)
    reach = habits.restlessness * (0.25 + 0.95 * lively)
    turn = 2 * np.pi * np.cumsum(0.10 + 0.42 * lively) / frame_rate
    out = np.empty((frames, 5))
    for axis, (size, pace) in enumerate(
        ((0.10, 1.0), (0.06, 1.37), (0.055, 0.83), (0.055, 0.71), (0.03, 1.19))
    ):
        sway = np.sin(pace * turn + rng.uniform(0, 2 * np.pi)) + 0.55 * _wander(rng, frames, frame_rate, 1.6)
        out[:, axis] = size * reach * sway
    return out


def _blinks(rng: np.random.Generator, arousal: Series, habits: Habits, frame_rate: float) -> Series:
    """A factor for the lids (frames,): 1, but for blinks of about 0.2 s, likelier when aroused."""
    lids = np.ones(len(arousal))
    shape = np.array([0.55, 0.10, 0.04, 0.30, 0.70, 0.92])
    chance = habits.blinks_per_minute / 60 / frame_rate * np.clip(1 + 0.5 * arousal, 0.4, 1.6)
    draws = rng.random(len(lids))
    shut_until = 0
    for i in np.flatnonzero(draws < chance).tolist():
        if i >= shut_until:
            part = shape[: len(lids) - i]
            lids[i : i + len(part)] = part
            shut_until = i + 2 * len(shape)
    return lids


def _gaze(rng: np.random.Generator, frames: int, frame_rate: float) -> Series:
    """Where the eyes look (frames, 2): mostly into the camera, with a quick glance aside from time to time."""
    gaze = np.zeros((frames, 2))
    at = 0
    while at < frames:
        hold = round(rng.uniform(0.5, 2.5) * frame_rate)
        glance = rng.normal(0, (0.45, 0.25)) if rng.random() < 0.35 else rng.normal(0, 0.07, 2)
        gaze[at : at + hold] = np.clip(glance, -0.9, 0.9)
        at += hold
    return gaze


def _follow(signal: NDArray[np.float64], *, rise: float, fall: float) -> Series:
    """The signal smoothed by first-order steps, one speed up and another down."""
    out = np.empty(len(signal))
    level = 0.0
    for i, x in enumerate(signal):
        level += (rise if x > level else fall) * (x - level)
        out[i] = level
    return out
