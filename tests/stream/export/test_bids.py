"""A BIDS data set: names that the validator accepts, and what pybids reads back."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from bids import BIDSLayout
from bids_validator import BIDSValidator

from models.errors import UserError
from stream.export.bids import subject_label, write_bids

if TYPE_CHECKING:
    from pathlib import Path

    from stream.session_folder.read import SessionFolder


def test_every_name_is_one_of_bids(session: SessionFolder, tmp_path: Path) -> None:
    written = write_bids(session, tmp_path / "study", "P07")
    names = sorted("/" + path.relative_to(tmp_path / "study").as_posix() for path in written)
    assert names == [
        "/README",
        "/dataset_description.json",
        "/participants.tsv",
        "/sub-P07/beh/sub-P07_task-affect_events.json",
        "/sub-P07/beh/sub-P07_task-affect_events.tsv",
        "/sub-P07/beh/sub-P07_task-affect_physio.json",
        "/sub-P07/beh/sub-P07_task-affect_physio.tsv.gz",
    ]
    assert [name for name in names if not BIDSValidator().is_bids(name)] == []


def test_pybids_reads_it_back(session: SessionFolder, tmp_path: Path) -> None:
    write_bids(session, tmp_path / "study", "P07")
    layout = BIDSLayout(str(tmp_path / "study"))
    assert layout.get_subjects() == ["P07"]
    assert layout.get_tasks() == ["affect"]
    recording = layout.get(suffix="physio", extension=".tsv.gz")[0]
    described = recording.get_metadata()
    assert described["SamplingFrequency"] == 30.0
    assert described["StartTime"] == 0.0
    assert set(described["Columns"]) <= set(described)
    assert described["Bundle"]["sha256"] == "ab" * 32
    samples = pd.read_csv(recording.path, sep="\t", header=None, names=described["Columns"], na_values="n/a")
    assert len(samples) == 90
    assert samples.valence[30] == pytest.approx(-0.1)
    assert samples.voice.tolist() == [1] * 30 + [0] * 60
    events = layout.get(suffix="events", extension=".tsv")[0].get_df()
    assert [(row.onset, row.trial_type, row.value) for row in events.itertuples()] == [
        (0.2, "word", "hello"),
        (0.5, "word", 'quite "nice", really'),
        (1.0, "marker", "a question"),
        (2.5, "marker", 'said "stop", left'),
    ]


def test_a_sample_without_a_frame_is_not_available(session: SessionFolder, tmp_path: Path) -> None:
    kept = {name: np.delete(column, slice(40, 50)) for name, column in session.estimates.items()}
    holed = replace(session)
    vars(holed)["estimates"] = kept
    data = next(p for p in write_bids(holed, tmp_path / "study", "P07") if p.name.endswith(".tsv.gz"))
    rows = gzip.decompress(data.read_bytes()).decode().splitlines()
    assert len(rows) == 90
    assert [number for number, row in enumerate(rows) if "n/a" in row] == list(range(40, 50))


def test_a_data_set_grows_and_loses_nothing(session: SessionFolder, tmp_path: Path) -> None:
    study = tmp_path / "study"
    study.mkdir()
    (study / "dataset_description.json").write_text('{"Name": "ours", "BIDSVersion": "1.10.0"}')
    (study / "participants.tsv").write_text("participant_id\tage\nsub-P01\t33\n")
    write_bids(session, study, "P07")
    assert json.loads((study / "dataset_description.json").read_text())["Name"] == "ours"
    assert (study / "participants.tsv").read_text() == "participant_id\tage\nsub-P01\t33\nsub-P07\tn/a\n"
    with pytest.raises(UserError, match="sub-P07 already"):
        write_bids(session, study, "P07")


@pytest.mark.parametrize(
    ("participant", "label"),
    [("P-07", "P07"), (None, "01"), ("sub-12", "12"), ("--", "01"), ("Ann Ä.", "Ann")],
)
def test_a_participant_is_labelled_as_bids_wants_it(participant: str | None, label: str) -> None:
    assert subject_label(participant) == label
