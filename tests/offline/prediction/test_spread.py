"""A calibrated bundle's predictions give the error to expect, as the live run does."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from models.errors import UserError
from models.spec import TARGETS, Modality, WindowSpec
from models.spread import PATTERNS, SpreadCalibration, pattern_of
from offline.data.arrays import write_rows
from offline.data.store import bundle_recipe
from offline.prediction.predict import embed_trial, predict_trial
from offline.prediction.spread import expected_error, presence_patterns
from tests.offline.trial_stores import Made, write_store

if TYPE_CHECKING:
    from pathlib import Path

    from models.bundle.load import Bundle
    from offline.data.store import TrialRecord

CALIBRATION = SpreadCalibration(
    scale={"valence": 2.0, "arousal": 0.5},
    floor={p: {"valence": 0.01 * n, "arousal": 0.02 * n} for n, p in enumerate(PATTERNS)},
)


@pytest.fixture
def trial(bundle: Bundle, tmp_path: Path) -> TrialRecord:
    """A trial with a voice in its second half and two words."""
    store = write_store(tmp_path / "store", bundle_recipe(bundle.manifest), [Made("talk")])
    trial = store.trial("talk")
    write_rows(trial.folder / "voices.npy", np.arange(trial.frames) >= trial.frames // 2)
    spoken = [("oh", 0.31, 0.52), ("no", 0.8, 1.0)]
    words = [[{"text": t, "start_s": s, "end_s": e, "confidence": None} for t, s, e in spoken]]
    (trial.folder / "words.json").write_text(json.dumps(words), encoding="utf-8")
    return trial


def test_each_frame_takes_the_floor_of_what_was_present_there() -> None:
    random = np.random.default_rng(1)
    folds = random.normal(size=(6, 30, len(TARGETS)))
    patterns = random.choice(np.array(PATTERNS), 30)
    found = expected_error(CALIBRATION, folds, patterns)
    for t, pattern in enumerate(patterns):
        assert np.array_equal(found[t], CALIBRATION.expected_error(folds[:, t].std(axis=0), str(pattern))), (
            pattern
        )


def test_patterns_say_face_voice_and_word_at_each_frame(trial: TrialRecord) -> None:
    voices, times = trial.voices, trial.times
    assert voices is not None
    spoken = [
        any(w["start_s"] <= time < w["end_s"] for utterance in trial.words() for w in utterance)
        for time in times
    ]
    expected = [
        pattern_of(bool(face), bool(voice), word)
        for face, voice, word in zip(trial.faces, voices, spoken, strict=True)
    ]
    assert list(presence_patterns(trial)) == expected


def test_what_is_missing_is_never_present(trial: TrialRecord) -> None:
    assert set(presence_patterns(trial, frozenset(Modality))) == {"nothing"}
    assert not any("face" in p for p in presence_patterns(trial, {Modality.VISUAL}))


def test_a_calibrated_bundle_predicts_the_error_to_expect(bundle: Bundle, trial: TrialRecord) -> None:
    embeddings = embed_trial(bundle, trial)
    calibrated = replace(bundle, manifest=bundle.manifest.model_copy(update={"spread": CALIBRATION}))
    spec = WindowSpec(length=16, hop=10)
    for context in ("stream", "windows"):
        plain = predict_trial(bundle, trial, embeddings, context, spec)
        found = predict_trial(calibrated, trial, embeddings, context, spec)
        assert np.array_equal(found.value, plain.value)
        assert np.array_equal(
            found.spread, expected_error(CALIBRATION, plain.folds, presence_patterns(trial))
        ), context


def test_a_trial_that_does_not_say_when_a_voice_was_heard_is_named(trial: TrialRecord) -> None:
    (trial.folder / "voices.npy").unlink()
    with pytest.raises(UserError, match="does not say when a voice was heard: preprocess it again"):
        presence_patterns(trial)
