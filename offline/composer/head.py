"""How a head moves before a camera, how light falls on it, and how its mouth moves as it talks. Pure.

Smooth random walks that return to the middle (Ornstein-Uhlenbeck processes, low-passed), one for each thing that
moves; the network is to see what a webcam shows, not one still picture after another.

`offline.people.mouth_augmentation` opens mouths too, as tensors and at random; here speech says how wide, each frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from models.visual.framing import Square

Grey = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class HeadMotion:
    """For each of N frames: how far the square lies from the face (in its sides), how much larger it is (its
    logarithm), the head's turn in the picture (radians), and the light's gain and gamma (logarithms).
    """

    right: NDArray[np.float64]
    down: NDArray[np.float64]
    scale: NDArray[np.float64]
    turn: NDArray[np.float64]
    gain: NDArray[np.float64]
    gamma: NDArray[np.float64]


def draw_motion(frames: int, frame_rate: float, random: np.random.Generator) -> HeadMotion:
    """The motion of one trial; some people hold still and others do not."""
    lively = random.uniform(0.2, 1.5)

    def walk(deviation: float, time_constant_s: float) -> NDArray[np.float64]:
        return wander(frames, frame_rate, deviation, time_constant_s, random)

    jitter = 0.006 * random.uniform(0.3, 2.0)
    return HeadMotion(
        right=walk(0.035 * lively, 1.2) + jitter * random.standard_normal(frames),
        down=walk(0.03 * lively, 1.5) + jitter * random.standard_normal(frames),
        scale=walk(0.05 * lively, 2.5) + jitter * random.standard_normal(frames),
        turn=walk(np.deg2rad(5.0) * lively, 1.5),
        gain=walk(0.12, 6.0) + random.normal(0, 0.12),
        gamma=walk(0.08, 8.0) + random.normal(0, 0.15),
    )


def wander(
    frames: int, frame_rate: float, deviation: float, time_constant_s: float, random: np.random.Generator
) -> NDArray[np.float64]:
    """A smooth walk (N,) about 0 with a standard deviation of about `deviation`."""
    keep = np.exp(-1 / (time_constant_s * frame_rate))
    drive = np.sqrt(1 - keep * keep) * random.standard_normal(frames)
    walk = np.empty(frames)
    value = random.standard_normal()
    for k in range(frames):
        value = keep * value + drive[k]
        walk[k] = value
    # A second pass takes the corners off without moving it much.
    smooth = np.exp(-1 / (0.12 * frame_rate))
    value = walk[0]
    for k in range(frames):
        value = smooth * value + (1 - smooth) * walk[k]
        walk[k] = value
    return deviation * walk


def draw_face(picture: Grey, square: Square, motion: HeadMotion, frame: int, side: int) -> Grey:
    """What the camera shows of a picture (h, w) in [0, 1] at a frame: (side, side) in [0, 1]."""
    step = square.side * np.exp(motion.scale[frame]) / side
    cos, sin = np.cos(motion.turn[frame]) * step, np.sin(motion.turn[frame]) * step
    x = square.x + motion.right[frame] * square.side
    y = square.y + motion.down[frame] * square.side
    middle = (side - 1) / 2
    matrix = np.array(
        [[cos, -sin, x - 0.5 - (cos - sin) * middle], [sin, cos, y - 0.5 - (sin + cos) * middle]]
    )
    shown: Grey = cv2.warpAffine(
        picture,
        matrix,
        (side, side),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    light = np.float32(np.exp(motion.gain[frame]))
    lit: Grey = np.clip(shown * light, 0, 1) ** np.float32(np.exp(motion.gamma[frame]))
    return lit


def open_mouth(picture: Grey, landmarks: NDArray[np.float32], gap: float) -> Grey:
    """A picture (h, w) in [0, 1] with the mouth opened by `gap` mouth's widths: the jaw falls, a dark gap appears.

    `landmarks` (5, 2): eyes, nose, corners of the mouth, in its pixels.
    """
    if gap < 0.02:
        return picture
    left, right = landmarks[3].astype(np.float64), landmarks[4].astype(np.float64)
    width = max(float(np.hypot(*(right - left))), 4.0)
    along = (right - left) / width
    centre = (left + right) / 2
    rows, columns = np.mgrid[0 : picture.shape[0], 0 : picture.shape[1]].astype(np.float64) + 0.5
    dx, dy = columns - centre[0], rows - centre[1]
    across = (dx * along[0] + dy * along[1]) / width
    below = (dy * along[0] - dx * along[1]) / width
    opening = gap * np.sqrt(np.clip(1 - (across / 0.4) ** 2, 0, None))
    rise = 0.25
    fall = np.exp(-((across / 0.5) ** 2)) * gap
    lower = (1 - rise) * fall * np.exp(-((below / 0.9) ** 2))
    upper = rise * fall * np.exp(-((below / 0.3) ** 2))
    source = np.where(below > 0, np.maximum(below - lower, 0), np.minimum(below + upper, 0))
    map_x = centre[0] + width * (across * along[0] - source * along[1]) - 0.5
    map_y = centre[1] + width * (across * along[1] + source * along[0]) - 0.5
    warped = cv2.remap(
        picture,
        map_x.astype(np.float32),
        map_y.astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    edge = 0.05
    inside = _soft((below + rise * opening) / edge) * _soft(((1 - rise) * opening - below) / edge)
    inside = np.where(opening > 0.03, inside, 0.0)
    near = np.exp(-(across**2 + below**2) / 0.5)
    dark = 0.35 * float((picture * near).sum() / near.sum())
    opened: Grey = (warped + (dark - warped) * inside).astype(np.float32)
    return opened


def _soft(x: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = 1 / (1 + np.exp(-np.clip(x, -30, 30)))
    return found
