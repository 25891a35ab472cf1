"""From a merged frame to an estimate: clipped, timed where it is provisional, and honest about what it lacks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.centering import CenteredFrame
from models.speech.timeline import WordTimeline
from models.speech.words import VoiceDecided, Word, WordsRevised
from models.spread import SpreadCalibration
from stream.estimation.active_folds import ActiveFolds
from stream.estimation.estimates import RETURNING, make_estimate
from stream.estimation.frames import MergedFrame, PendingFrame
from stream.flow.ladder import FULL, Rung
from stream.messages import Affect
from stream.perception.features import Availability, FrameFeatures


def merged(*, rung: Rung = FULL, folds: int = 2, repeated: bool = False) -> MergedFrame:
    features = FrameFeatures(
        index=30,
        time_s=1.0,
        captured_at=100.0,
        crop=np.zeros((48, 48, 3), np.uint8),
        patch=np.zeros((96, 64), np.float32),
        face=True,
        available=Availability(),
        rung=rung,
        repeated=repeated,
    )
    frame = PendingFrame(features, {}, np.zeros(0, np.float32), ActiveFolds.of(folds))
    centered = CenteredFrame(np.array([1.5, -0.25]), np.array([0.5, 0.125]), np.full((2, folds), 1 / folds))
    return MergedFrame(frame, np.full((folds, 2), 1.25), centered)


def heard() -> WordTimeline:
    timeline = WordTimeline()
    for event in (
        VoiceDecided(0.0, 2.0, True, True),
        WordsRevised(0, (Word("hello", 0.9, 1.2),), closed=False),
    ):
        timeline, _ = timeline.step(event)
    return timeline


def test_the_merge_is_clipped_and_the_folds_are_not() -> None:
    estimate = make_estimate(merged(), WordTimeline(), folds=2, ready_at=None)
    assert (estimate.frame, estimate.time_s) == (30, 1.0)
    assert estimate.value == Affect(1.0, -0.25)
    assert estimate.spread == Affect(0.5, 0.125)
    assert estimate.folds == (Affect(1.25, 1.25),) * 2


def test_what_is_said_and_heard_at_its_time() -> None:
    estimate = make_estimate(merged(), heard(), folds=2, ready_at=None)
    assert (estimate.words, estimate.present.words, estimate.present.voice) == ("hello", True, True)
    silent = make_estimate(merged(), WordTimeline(), folds=2, ready_at=None)
    assert (silent.words, silent.present.words, silent.present.voice) == ("", False, False)


def test_only_a_provisional_estimate_of_a_live_frame_has_a_latency() -> None:
    provisional = make_estimate(merged(), WordTimeline(), folds=2, ready_at=100.05)
    assert not provisional.settled
    assert provisional.latency_ms == pytest.approx(50.0)
    settled = make_estimate(merged(), WordTimeline(), folds=2, ready_at=None)
    assert settled.settled
    assert settled.latency_ms is None
    assert make_estimate(merged(repeated=True), WordTimeline(), folds=2, ready_at=100.05).latency_ms is None


def test_it_says_what_it_lacks() -> None:
    assert make_estimate(merged(), WordTimeline(), folds=2, ready_at=None).degraded is None
    assert make_estimate(merged(folds=1), WordTimeline(), folds=2, ready_at=None).degraded == RETURNING
    spared = merged(rung=Rung("few", 1, 1), folds=1)
    assert make_estimate(spared, WordTimeline(), folds=2, ready_at=None).degraded == "few"


def test_a_calibrated_bundle_says_the_error_to_expect_of_folds_that_lie_apart() -> None:
    frame = replace(merged(), outputs=np.array([[0.1, 0.3], [0.9, -0.1]]))
    calibration = SpreadCalibration(
        scale={"valence": 4.0, "arousal": 0.0},
        floor={"nothing": {"valence": 0.09, "arousal": 0.16}},
    )
    found = make_estimate(frame, WordTimeline(), folds=2, ready_at=None, calibration=calibration).spread
    assert found.valence == pytest.approx(np.sqrt(4 * 0.4**2 + 0.09))
    assert found.arousal == pytest.approx(0.4)
