"""Labels: read as Aff-Wild2 writes it, and compared with what was estimated."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from models.centering import ccc
from models.errors import UserError
from stream.messages import Affect
from stream.options import DEMO_RECORDING
from stream.view.labels import Agreement, LabelledTrajectory
from tests.stream.brokers import estimate

if TYPE_CHECKING:
    from pathlib import Path


def write(folder: Path, text: str) -> Path:
    path = folder / "labels.txt"
    path.write_text(text)
    return path


def test_labels_are_read_with_gaps(tmp_path: Path) -> None:
    labelled = LabelledTrajectory.read(write(tmp_path, "valence,arousal\n0.5,-0.25\n-5,-5\n0,1\n"))
    assert labelled.frames == (Affect(0.5, -0.25), None, Affect(0.0, 1.0))
    assert labelled.at(0) == Affect(0.5, -0.25)
    assert labelled.at(1) is labelled.at(3) is labelled.at(-1) is None


@pytest.mark.parametrize(
    "text", ["", "arousal,valence\n0,0\n", "valence,arousal\n1\n", "valence,arousal\nnan,0\n"]
)
def test_what_is_no_label_file_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match=r"labels\.txt"):
        LabelledTrajectory.read(write(tmp_path, text))


@pytest.mark.parametrize("row", ["-5,0.5", "0.5,-5"])
def test_a_frame_with_one_value_missing_is_not_labelled(tmp_path: Path, row: str) -> None:
    known = LabelledTrajectory.read(write(tmp_path, f"valence,arousal\n{row}\n0,1\n"))
    assert known.frames == (None, Affect(0.0, 1.0))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing here"):
        LabelledTrajectory.read(tmp_path / "nothing here")


def test_agreement_is_the_ccc_over_labelled_frames() -> None:
    labels = np.linspace(-1, 1, 30)
    labelled = LabelledTrajectory(
        tuple(Affect(float(v), -0.5) if i != 3 else None for i, v in enumerate(labels))
    )
    agreement = Agreement(labelled)
    assert agreement.ccc() is None
    for i, v in enumerate(labels):
        agreement.take(estimate(i, settled=True, valence=float(v) * 0.5))
    found = agreement.ccc()
    kept = np.delete(labels, 3)
    assert found is not None
    assert found["valence"] == pytest.approx(ccc(kept * 0.5, kept))
    assert found["arousal"] == 1.0, "both constant and equal"


def test_the_demo_recording_has_one() -> None:
    assert len(LabelledTrajectory.read(DEMO_RECORDING.with_suffix(".txt")).frames) == 960
