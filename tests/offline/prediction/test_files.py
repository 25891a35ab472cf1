"""Predictions as files: the challenge's form, and a CSV for each trial."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import numpy as np
import pytest

from models.errors import UserError
from models.spec import TARGETS, Target
from offline.prediction.files import (
    check_targets,
    read_trial,
    submission_text,
    trial_text,
    write_submission,
    write_trials,
)
from offline.prediction.predict import Prediction

if TYPE_CHECKING:
    from pathlib import Path


def predict(name: str, frames: int, targets: tuple[Target, ...] = TARGETS, folds: int = 3) -> Prediction:
    random = np.random.default_rng(frames)
    k = len(targets)
    labels = random.uniform(-1, 1, (frames, k))
    labels[:2] = np.nan
    return Prediction(
        trial=name,
        context="windows",
        targets=targets,
        times=np.arange(frames) / 30,
        folds=random.uniform(-1.5, 1.5, (folds, frames, k)),
        value=random.uniform(-1, 1, (frames, k)),
        spread=random.uniform(0, 1, (frames, k)),
        labels=labels,
    )


def test_a_submission_is_the_challenges_form() -> None:
    first, second = predict("309", 3), predict("video10_1_left", 2)
    lines = submission_text([first, second]).split("\n")
    assert lines[0] == "image_location,valence,arousal"
    assert [line.split(",")[0] for line in lines[1:-1]] == [
        "309/00001.jpg",
        "309/00002.jpg",
        "309/00003.jpg",
        "video10_1_left/00001.jpg",
        "video10_1_left/00002.jpg",
    ]
    assert lines[-1] == "", "a newline at the end"
    values = [[float(x) for x in line.split(",")[1:]] for line in lines[1:-1]]
    assert np.allclose(values, np.concatenate([first.value, second.value]), atol=1e-6)
    assert np.abs(values).max() <= 1


def test_long_trials_keep_their_frame_numbers() -> None:
    lines = submission_text([predict("a", 100_001)]).split("\n")
    assert lines[99_999].startswith("a/99999.jpg,")
    assert lines[100_001].startswith("a/100001.jpg,")


def test_a_submission_needs_both_targets(tmp_path: Path) -> None:
    alone = predict("a", 3, ("arousal",))
    with pytest.raises(UserError, match="this bundle estimates arousal alone"):
        write_submission(tmp_path / "va.txt", [alone])
    assert not (tmp_path / "va.txt").exists()
    with pytest.raises(UserError):
        check_targets(("valence",))
    check_targets(TARGETS)


def test_a_trials_csv_has_everything_of_each_frame() -> None:
    made = predict("a", 4, folds=2)
    rows = list(csv.DictReader(trial_text(made).splitlines()))
    assert [row["frame"] for row in rows] == ["1", "2", "3", "4"]
    assert float(rows[3]["time_s"]) == pytest.approx(0.1)
    assert float(rows[2]["valence"]) == pytest.approx(made.value[2, 0], abs=1e-6)
    assert float(rows[2]["spread_arousal"]) == pytest.approx(made.spread[2, 1], abs=1e-6)
    assert float(rows[2]["fold_1_arousal"]) == pytest.approx(np.clip(made.folds[1, 2, 1], -1, 1), abs=1e-6)
    assert rows[0]["label_valence"] == ""
    assert float(rows[2]["label_valence"]) == pytest.approx(made.labels[2, 0], abs=1e-6)


@pytest.mark.parametrize("targets", [TARGETS, ("arousal",)])
def test_a_trials_csv_reads_back(tmp_path: Path, targets: tuple[Target, ...]) -> None:
    made = predict("video5_left", 5, targets)
    write_trials(tmp_path, [made])
    found = read_trial(tmp_path / "windows" / "video5_left.csv")
    assert (found.trial, found.context, found.targets) == (made.trial, made.context, made.targets)
    for name in ("times", "value", "spread", "labels"):
        assert np.allclose(getattr(found, name), getattr(made, name), atol=1e-6, equal_nan=True), name
    assert np.allclose(found.folds, made.clipped_folds, atol=1e-6)


@pytest.mark.parametrize("content", ["", "frame,time_s\n1,0\n", "a,b\n1,x\n", "valence,arousal\n0,1,2\n"])
def test_another_csv_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "other.csv").write_text(content)
    with pytest.raises(UserError, match=r"other\.csv is no prediction"):
        read_trial(tmp_path / "other.csv")


def test_where_nothing_can_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "va.txt").mkdir()
    with pytest.raises(UserError, match="cannot be written"):
        write_submission(tmp_path / "va.txt", [predict("a", 2)])
