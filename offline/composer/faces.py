"""The face of a composed trial: one picture blended into the next as the feeling goes on, moving, lit, talking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from models.visual.alignment import zero_crop
from offline.composer.head import HeadMotion, draw_face, draw_motion, open_mouth
from offline.composer.material import Pictures, choose_near
from offline.composer.perceived import Channel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from models.spec import CropSpec
    from offline.composer.episodes import Episode


@dataclass(frozen=True)
class Shot:
    """A picture on show from `start_s` on, blended in over `blend_s`; `picture` None is nobody before the camera."""

    start_s: float
    blend_s: float
    picture: int | None


@dataclass(frozen=True, eq=False)
class FaceTrack:
    """N frames: crops (N, s, s, 3) uint8, zeros where there is no face; `channel` what the face says."""

    crops: NDArray[np.uint8]
    channel: Channel


def draw_shots(episodes: Sequence[Episode], pictures: Pictures, random: np.random.Generator) -> list[Shot]:
    """Which pictures are shown when: near the feeling, or neutral, or of another feeling, as each episode says."""
    shots: list[Shot] = []
    for episode in episodes:
        now_s = episode.start_s
        other = pictures.feelings[int(random.integers(len(pictures)))]
        turning = bool((episode.felt != episode.becomes).any())
        while now_s < episode.end_s:
            lasts_s = random.uniform(0.4, 0.9) if turning else random.uniform(1.0, 6.0)
            wanted = episode.feeling_at(min(episode.end_s, now_s + lasts_s / 2))
            if episode.face == "neutral":
                wanted = np.zeros(2, np.float32)
            elif episode.face == "differs":
                wanted = other
            picture = None if episode.face == "absent" else choose_near(pictures.feelings, wanted, random)
            blend_s = float(random.uniform(0.25, 0.6))
            shots.append(Shot(now_s, blend_s, picture))
            now_s += max(lasts_s, blend_s)
    return shots


def draw_faces(
    shots: Sequence[Shot],
    pictures: Pictures,
    talking: NDArray[np.float32],
    frame_rate: float,
    spec: CropSpec,
    random: np.random.Generator,
) -> FaceTrack:
    """The crops of all frames. `talking` (N,) is how wide the mouth stands open because something is said, 0 to 1."""
    frames = len(talking)
    motion = draw_motion(frames, frame_rate, random)
    blur, noise = random.uniform(0, 0.8), random.uniform(0, 0.02)
    mirrored = random.random(len(pictures)) < 0.5
    crops = np.zeros((frames, spec.stored_size, spec.stored_size, 3), np.uint8)
    feelings = np.zeros((frames, 2), np.float32)
    active = np.zeros(frames, np.bool_)
    current = 0
    for k in range(frames):
        now_s = k / frame_rate
        while current + 1 < len(shots) and shots[current + 1].start_s <= now_s:
            current += 1
        shot = shots[current]
        before = shots[current - 1].picture if current else None
        if shot.picture is None:
            crops[k] = zero_crop(spec)
            continue
        share = min(1.0, (now_s - shot.start_s) / shot.blend_s) if before is not None else 1.0
        grey = _show(pictures, shot.picture, mirrored, motion, k, talking[k], spec)
        feeling = pictures.feelings[shot.picture]
        if share < 1 and before is not None:
            grey = share * grey + (1 - share) * _show(pictures, before, mirrored, motion, k, talking[k], spec)
            feeling = share * feeling + (1 - share) * pictures.feelings[before]
        if blur > 0.2:
            grey = cv2.GaussianBlur(grey, (0, 0), blur)
        grey = grey + noise * random.standard_normal(grey.shape, np.float32)
        crops[k] = np.clip(np.rint(grey * 255), 1, 255).astype(np.uint8)[:, :, None]
        feelings[k], active[k] = feeling, True
    return FaceTrack(crops, Channel(feelings, active))


def _show(
    pictures: Pictures,
    index: int,
    mirrored: NDArray[np.bool_],
    motion: HeadMotion,
    frame: int,
    talking: float,
    spec: CropSpec,
) -> NDArray[np.float32]:
    picture = pictures.images[index].astype(np.float32) / 255
    picture = open_mouth(picture, pictures.landmarks[index], float(talking) * 0.4)
    crop = draw_face(picture, pictures.squares[index], motion, frame, spec.stored_size)
    return np.ascontiguousarray(crop[:, ::-1]) if mirrored[index] else crop
