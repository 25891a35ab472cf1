"""Where emotions that have names lie in valence and arousal: one map, for learning from categories and for judging.

Placed by hand after Russell's circumplex (A circumplex model of affect, 1980). Whoever learns from it or is judged by
it has to say so: other maps are as defensible, and move every score.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Placement:
    """Where an emotion lies: valence and arousal in [-1, 1], and why there, in a line."""

    valence: float
    arousal: float
    reason: str


EMOTIONS: Final[Mapping[str, Placement]] = {
    "neutral": Placement(0.0, 0.0, "the origin: what the others are told from"),
    "happiness": Placement(0.8, 0.45, "very pleasant, lively"),
    "surprise": Placement(0.15, 0.75, "startled: hardly good or bad, very alert"),
    "sadness": Placement(-0.65, -0.3, "unpleasant, without energy"),
    "anger": Placement(-0.55, 0.65, "unpleasant, up in arms"),
    "disgust": Placement(-0.65, 0.35, "unpleasant, turning away"),
    "fear": Placement(-0.6, 0.7, "unpleasant, ready to flee"),
    "contempt": Placement(-0.45, 0.15, "looking down on: cold, little stirred"),
    "boredom": Placement(-0.35, -0.55, "a little unpleasant, half asleep"),
    "admiration": Placement(0.65, 0.2, "warm praise: moved, but at ease"),
    "amusement": Placement(0.7, 0.4, "laughing: close to happiness, lighter"),
    "annoyance": Placement(-0.45, 0.35, "a weaker anger"),
    "approval": Placement(0.4, 0.0, "agreeing is pleasant, hardly stirring"),
    "caring": Placement(0.45, 0.0, "comforting: warm and calm, about something bad"),
    "confusion": Placement(-0.2, 0.15, "a little unpleasant, a little alert"),
    "curiosity": Placement(0.1, 0.25, "interest: alert, neither good nor bad"),
    "desire": Placement(0.35, 0.3, "drawn to something not yet had"),
    "disappointment": Placement(-0.55, -0.2, "a mild sadness: let down"),
    "disapproval": Placement(-0.4, 0.2, "rejecting: colder than annoyance"),
    "embarrassment": Placement(-0.45, 0.25, "unpleasant self-awareness: flushed, not loud"),
    "excitement": Placement(0.7, 0.75, "the pleasant end of high arousal"),
    "gratitude": Placement(0.7, 0.1, "thanking: very pleasant, settled"),
    "grief": Placement(-0.8, 0.0, "worse than sadness, and more violent"),
    "joy": Placement(0.8, 0.45, "happiness by another name"),
    "love": Placement(0.8, 0.3, "as pleasant as joy, calmer"),
    "nervousness": Placement(-0.4, 0.5, "a weaker fear"),
    "optimism": Placement(0.5, 0.2, "looking forward: hopeful, not thrilled"),
    "pride": Placement(0.65, 0.35, "pleasant and upright"),
    "realization": Placement(0.05, 0.15, "a small surprise"),
    "relief": Placement(0.5, -0.2, "tension that has just gone"),
    "remorse": Placement(-0.55, -0.05, "sad and uneasy at once"),
}
"""By name: what FER+, EmoDB and CREMA-D label, then what GoEmotions adds."""


def place_emotions(names: Sequence[str]) -> Floats:
    """Valence and arousal of named emotions, (n, 2). Raises KeyError for a name that is not in `EMOTIONS`."""
    return np.array([(EMOTIONS[name].valence, EMOTIONS[name].arousal) for name in names]).reshape(-1, 2)


def mean_placement(weights: NDArray[np.generic], names: Sequence[str]) -> Floats:
    """The mean of the emotions' places under `weights` (N, n) >= 0 (votes, shares), in valence and arousal (N, 2).

    `names` are the n emotions of the columns. Raises ValueError for a row without any weight.
    """
    shares = np.asarray(weights, np.float64)
    totals = shares.sum(axis=1, keepdims=True)
    if not (totals > 0).all():
        raise ValueError("every row needs a weight above zero")
    found: Floats = shares @ place_emotions(names) / totals
    return found
