"""How well estimates agree with labels: RMSE, PCC and CCC (report section 4), over labelled frames only."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.centering import ccc
from models.spec import Target

if TYPE_CHECKING:
    from collections.abc import Sequence

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """Agreement of one target's estimates with its labels over `frames` labelled frames.

    `ccc` and `pcc` are in [-1, 1], `rmse` in the target's own unit. PCC is 0 where a series is constant; CCC's
    defined answers there are those of `models.centering`.
    """

    ccc: float
    rmse: float
    pcc: float
    frames: int


TargetScores = dict[Target, Scores]
"""Scores by target; a target without any label is left out."""


def score(estimates: ArrayLike, labels: ArrayLike) -> Scores | None:
    """Scores of one series (N,) against labels (N,), NaN where there is none; None without any label.

    Raises ValueError where lengths differ or a labelled frame's estimate is not finite.
    """
    y, g = np.asarray(estimates, np.float64), np.asarray(labels, np.float64)
    if y.ndim != 1 or y.shape != g.shape:
        raise ValueError(f"estimates and labels must be series of one length, not {y.shape} and {g.shape}")
    known = ~np.isnan(g)
    if not known.any():
        return None
    y, g = y[known], g[known]
    return Scores(
        ccc=ccc(y, g),
        rmse=math.sqrt(float(((y - g) ** 2).mean())),
        pcc=pcc(y, g),
        frames=len(g),
    )


def score_targets(estimates: ArrayLike, labels: ArrayLike, targets: Sequence[Target]) -> TargetScores:
    """Scores of each target: estimates and labels (N, K), K as in `targets`. Raises ValueError as `score`."""
    y, g = np.asarray(estimates, np.float64), np.asarray(labels, np.float64)
    found = {target: score(y[:, k], g[:, k]) for k, target in enumerate(targets)}
    return {target: scores for target, scores in found.items() if scores is not None}


def pcc(x: ArrayLike, y: ArrayLike) -> float:
    """Pearson's correlation of two series (N,), in [-1, 1]; 0 where one is constant."""
    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    a, b = _direction(a), _direction(b)
    return max(-1.0, min(1.0, float(a @ b)))


def _direction(x: Floats) -> Floats:
    """A series' deviations as a vector of unit length; scaled first, so that tiny ones do not underflow."""
    deviations = x - x.mean()
    deviations /= np.abs(deviations).max()
    found: Floats = deviations / np.linalg.norm(deviations)
    return found
