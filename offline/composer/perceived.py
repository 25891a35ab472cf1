"""What a person in a composed trial is labelled with: what somebody who sees and hears them would say. Pure.

Each channel that is there speaks for the feeling that its part was labelled with, by a weight of its own: faces tell
more of valence, voices more of arousal (Russell et al. 2003). A channel that has
gone quiet is remembered for a while; where nothing is there, the answer returns to neutral.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Final

import numpy as np

from models.spec import Modality
from offline.data.store import modality_set

if TYPE_CHECKING:
    from numpy.typing import NDArray

WEIGHTS: Final[dict[Modality, tuple[float, float]]] = {
    Modality.VISUAL: (0.6, 0.45),
    Modality.AUDIO: (0.15, 0.45),
    Modality.LANGUAGE: (0.25, 0.10),
}
"""By modality: how much it counts for valence and for arousal beside the others."""

RISE_S: Final[dict[Modality, float]] = {Modality.VISUAL: 0.1, Modality.AUDIO: 0.5, Modality.LANGUAGE: 0.3}
"""How long a channel must last before it counts in full."""

MEMORY_S: Final[dict[Modality, float]] = {Modality.VISUAL: 0.7, Modality.AUDIO: 1.5, Modality.LANGUAGE: 2.0}
"""The time constant at which a channel that has ended is forgotten."""

NEUTRAL_WEIGHT: Final = 0.3
"""Of the neutral answer, where no channel counts at all."""


@dataclass(frozen=True, eq=False)
class Channel:
    """What one channel says over N frames: `feelings` (N, 2), and `active` (N,) whether it says anything."""

    feelings: NDArray[np.float32]
    active: NDArray[np.bool_]


def perceive(channels: dict[Modality, Channel], frame_rate: float) -> NDArray[np.float32]:
    """The labels (N, 2) in [-1, 1]: the weighted mean of all channels at each frame."""
    frames = len(next(iter(channels.values())).active)
    total = np.zeros((frames, 2))
    weight = np.zeros((frames, 2))
    strongest = np.zeros(frames)
    for name, channel in channels.items():
        strength, kept = _follow(channel, RISE_S[name] * frame_rate, MEMORY_S[name] * frame_rate)
        share = strength[:, None] * np.array(WEIGHTS[name])
        total += share * kept
        weight += share
        strongest = np.maximum(strongest, strength)
    weight += NEUTRAL_WEIGHT * ((1 - strongest) ** 2)[:, None]
    labels: NDArray[np.float32] = np.clip(total / np.maximum(weight, 1e-6), -1, 1).astype(np.float32)
    return labels


def perceive_partly(
    channels: dict[Modality, Channel], frame_rate: float, labels: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The labels of somebody who is told of some modalities only, (N, 8, 2): neutral without any, `labels` with all.

    A voice alone tells what the voice says: a network that learned to hear from labels that a face decides would
    believe no voice.
    """
    found = np.zeros((len(labels), 2 ** len(channels), 2), np.float32)
    for count in range(1, len(channels)):
        for told in combinations(channels, count):
            found[:, modality_set(told)] = perceive({m: channels[m] for m in told}, frame_rate)
    found[:, modality_set(channels)] = labels
    return found


def _follow(
    channel: Channel, rise_frames: float, memory_frames: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How strongly a channel counts at each frame (N,), and the feeling (N, 2) that it last told."""
    up, down = 1 - np.exp(-1 / max(rise_frames, 1e-6)), 1 - np.exp(-1 / max(memory_frames, 1e-6))
    strength = np.zeros(len(channel.active))
    kept = np.zeros((len(channel.active), 2))
    now, last = 0.0, np.zeros(2)
    for k, active in enumerate(channel.active):
        if active:
            last = channel.feelings[k].astype(np.float64)
            now += up * (1 - now)
        else:
            now -= down * now
        strength[k], kept[k] = now, last
    return strength, kept
