"""The error to expect of a calibrated bundle's predictions, as a live run publishes it beside each estimate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.errors import UserError
from models.spec import Modality
from models.spread import pattern_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

    from models.spread import Floats, SpreadCalibration
    from offline.data.store import TrialRecord


def expected_error(calibration: SpreadCalibration, folds: Floats, patterns: NDArray[np.str_]) -> Floats:
    """The error to expect (N, K), of the folds' own outputs (F, N, K) and of what was present at each frame (N,)."""
    apart: Floats = folds.std(axis=0)
    found: Floats = np.empty_like(apart)
    for pattern in np.unique(patterns):
        here = patterns == pattern
        found[here] = calibration.expected_error(apart[here], str(pattern))
    return found


def presence_patterns(trial: TrialRecord, missing: Collection[Modality] = ()) -> NDArray[np.str_]:
    """What was present at each frame of a trial, (N,) names of `models.spread.PATTERNS`; what is `missing` never is.

    Raises UserError where the trial does not say when a voice was heard.
    """
    voices = trial.voices
    if voices is None:
        raise UserError(f"{trial.folder} does not say when a voice was heard: preprocess it again")
    present = {Modality.VISUAL: trial.faces, Modality.AUDIO: voices, Modality.LANGUAGE: _word_spoken(trial)}
    face, voice, words = (present[m] & (m not in missing) for m in Modality)
    return np.array(
        [pattern_of(bool(f), bool(v), bool(w)) for f, v, w in zip(face, voice, words, strict=True)]
    )


def _word_spoken(trial: TrialRecord) -> NDArray[np.bool_]:
    """Whether a word is being said at each frame, (N,)."""
    times = trial.times
    said = np.zeros(len(times), np.bool_)
    for utterance in trial.words():
        for word in utterance:
            begin, end = np.searchsorted(times, (word["start_s"], word["end_s"]))
            said[begin:end] = True
    return said
