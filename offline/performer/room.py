"""The picture around the head: the room behind, shoulders and collar in front, and the light on it all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from offline.performer.canvas import SHIFT, Picture, as_plane, blur, mirrored, outline, smooth, to_picture

if TYPE_CHECKING:
    from offline.performer.person import Person


def paint_room(person: Person, size: tuple[int, int], rng: np.random.Generator) -> Picture:
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
    return to_picture(room * fall[..., None])


def paint_torso(person: Person, size: tuple[int, int]) -> Picture:
    """Shoulders and collar, in front of the neck: RGB and coverage."""
    width, height = size
    scene = person.scene
    unit = scene.scale * height
    cx, cy = scene.centre[0] * width, scene.centre[1] * height
    broad = 0.92 + 0.12 * person.shape.jaw
    right = outline("0,2.12 0.42,1.86 0.62,1.72 1.30,1.92 1.95,2.20 2.20,2.9 2.25,4.5 0,4.5")
    right[3:, 0] *= broad
    half = smooth(mirrored(right))
    points = half * unit + (cx, cy)
    cover = np.zeros((height, width), np.uint8)
    cv2.fillPoly(cover, [np.round(points * 32).astype(np.int32)], 255, cv2.LINE_AA, SHIFT)
    soft = blur(as_plane(cover / 255), 0.01 * unit)
    y = ((np.arange(height) - cy) / unit)[:, None]
    x = ((np.arange(width) - cx) / unit)[None, :]
    shade = (
        0.95 + 0.10 * scene.light[0] * np.tanh(x) - 0.10 * (y - 2.0) - 0.35 * (1 - blur(soft, 0.18 * unit))
    )
    shade = shade - 0.25 * np.exp(-0.5 * (np.square(x / 0.6) + np.square((y - 1.95) / 0.14)))
    collar = np.exp(-0.5 * np.square((np.hypot(x / 0.75, (y - 1.62) / 0.5) - 1.12) / 0.025))
    shade = shade - 0.16 * collar
    shirt = np.array(person.looks.shirt, np.float32) * np.clip(shade, 0.2, 1.3)[..., None]
    return to_picture(np.dstack([shirt, soft * 255]))


def light_table(person: Person) -> Picture:
    """Painted to photographed colours: exposure, warmth, and a gentle shoulder."""
    scene = person.scene
    tone = np.arange(256) / 255 * scene.exposure
    tone = np.where(tone > 0.85, 0.85 + 0.15 * np.tanh((tone - 0.85) / 0.15), tone)
    gains = np.array([1 + scene.warmth, 1.0, 1 - scene.warmth])
    return to_picture(tone[:, None, None] * gains * 255)
