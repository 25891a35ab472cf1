"""From a merged frame to the estimate that is published."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from models.spread import SpreadCalibration, pattern_of
from stream.flow.ladder import FULL
from stream.messages import Affect, Estimate, Present

if TYPE_CHECKING:
    from models.speech.timeline import WordTimeline
    from stream.estimation.frames import MergedFrame

RETURNING: Final = "folds-returning"
"""What an estimate says it lacks while folds that rested compute again but are not merged yet."""


def make_estimate(
    merged: MergedFrame,
    timeline: WordTimeline,
    *,
    folds: int,
    ready_at: float | None,
    calibration: SpreadCalibration | None = None,
) -> Estimate:
    """The estimate of a frame, clipped to [-1, 1], with what was said and heard at its time.

    `folds` is how many the bundle has. `ready_at` (seconds since the epoch) is when a provisional estimate was ready,
    None for a settled one. With a `calibration` the spread is the error to expect, else that between the folds.
    """
    features, centered = merged.frame.features, merged.centered
    placed = timeline.word_at(features.time_s)
    voice = timeline.voice_at(features.time_s)
    valence, arousal = np.clip(centered.value, -1.0, 1.0)
    present = Present(features.face, voice is not None and voice.gate_open, placed is not None)
    spread = centered.spread
    if calibration is not None:
        # Of the folds' own outputs: centered ones agree on whatever has held still for a while, right or wrong.
        apart = np.std(np.asarray(merged.outputs, np.float64), axis=0)
        spread = calibration.expected_error(apart, pattern_of(present.face, present.voice, present.words))
    return Estimate(
        frame=features.index,
        time_s=features.time_s,
        captured_at=features.captured_at,
        value=Affect(float(valence), float(arousal)),
        spread=Affect(*map(float, spread)),
        folds=tuple(Affect(float(v), float(a)) for v, a in merged.outputs),
        present=present,
        settled=ready_at is None,
        latency_ms=None if ready_at is None or features.repeated else (ready_at - features.captured_at) * 1e3,
        words="" if placed is None else placed.word.text,
        degraded=_what_it_lacks(merged, folds),
        perceived_at=None if ready_at is None or features.repeated else features.perceived_at,
    )


def _what_it_lacks(merged: MergedFrame, folds: int) -> str | None:
    """The name of the rung, where it spares something, or `RETURNING`; None for an estimate by the whole method."""
    rung = merged.frame.features.rung
    if rung is not FULL:
        return rung.name
    return RETURNING if merged.frame.active.serving < folds else None
