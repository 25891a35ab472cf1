"""BIDS: a data set with a behavioural recording as continuous data, its description, and events.

Continuous recordings of BIDS are regular: every sample of the grid at the source's frame rate takes the nearest frame
in time, and is `n/a` where none is near.
"""

from __future__ import annotations

import gzip
import json
import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from models.errors import UserError
from stream.export.spans import marker_points, period_s, table

if TYPE_CHECKING:
    from pathlib import Path

    from stream.session_folder.read import SessionFolder

VERSION: Final = "1.10.0"
DEFAULT_SUBJECT: Final = "01"
TASK: Final = "affect"
MISSING: Final = "n/a"
NEAR_PERIODS: Final = 0.75
"""A frame further than so many periods from a sample is not taken for it."""

_MEANINGS: Final = {
    "valence": "How unpleasant (-1) or pleasant (1) the person's feeling seems",
    "arousal": "How calm (-1) or excited (1) the person seems",
    "valence_spread": "Spread of valence: between the folds, or the error to expect of a calibrated bundle",
    "arousal_spread": "Spread of arousal: between the folds, or the error to expect of a calibrated bundle",
    "face": "1 where a face was seen",
    "voice": "1 where a voice was heard",
    "words": "1 where a word was being said",
}


def subject_label(participant: str | None) -> str:
    """A participant as BIDS labels one: letters and digits only."""
    return re.sub(r"[^0-9A-Za-z]", "", participant or "").removeprefix("sub") or DEFAULT_SUBJECT


def write_bids(session: SessionFolder, folder: Path, name: str) -> list[Path]:
    """Adds the session to the data set in `folder`, which is begun where there is none; says what was written.

    Raises UserError where the data set has a recording of this participant already, and OSError. `name` is not used:
    BIDS has names of its own.
    """
    subject = subject_label(session.facts["participant"])
    stem = f"sub-{subject}_task-{TASK}"
    recordings = folder / f"sub-{subject}" / "beh"
    if recordings.exists():
        raise UserError(
            f"{folder} has a recording of sub-{subject} already, and none is overwritten: give another --out, or "
            "record each session with a --participant of its own"
        )
    recordings.mkdir(parents=True)
    data, events = recordings / f"{stem}_physio.tsv.gz", recordings / f"{stem}_events.tsv"
    written = [data, data.with_name(f"{stem}_physio.json"), events, events.with_suffix(".json")]
    _write_samples(session, data)
    _write_json(written[1], _sidecar(session))
    _write_events(session, events)
    _write_json(
        written[3],
        {
            "trial_type": {
                "Description": "What the event is",
                "Levels": {"marker": "A moment that somebody marked", "word": "A word, as it was recognised"},
            },
            "value": {"Description": "The marker's text, or the word"},
        },
    )
    return [*written, *_describe_data_set(session, folder, subject)]


def _write_samples(session: SessionFolder, path: Path) -> None:
    columns = [values for _, values in table(session)]
    lines = []
    for index in _nearest_frames(session):
        cells = [MISSING if index is None else _cell(values[index]) for values in columns]
        lines.append("\t".join(cells))
    # Without a time of its own in the file, so that the same session gives the same bytes.
    with path.open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as file:
        file.write(("\n".join(lines) + "\n").encode())


def _nearest_frames(session: SessionFolder) -> list[int | None]:
    """Of every sample of the grid, the frame's place in the table."""
    times = session.estimates["time_s"]
    if not len(times):
        return []
    step_s = period_s(session)
    grid = np.arange(round(float(times[-1]) / step_s) + 1) * step_s
    after = np.clip(np.searchsorted(times, grid), 0, len(times) - 1)
    before = np.maximum(after - 1, 0)
    nearest = np.where(np.abs(times[before] - grid) <= np.abs(times[after] - grid), before, after)
    found = np.abs(times[nearest] - grid) <= NEAR_PERIODS * step_s
    return [int(index) if here else None for index, here in zip(nearest, found, strict=True)]


def _cell(value: Any) -> str:
    if isinstance(value, np.integer):
        return str(value)
    return MISSING if np.isnan(value) else f"{value:.6f}"


def _sidecar(session: SessionFolder) -> dict[str, Any]:
    names = [name for name, _ in table(session)]
    times = session.estimates
    zero = None if not len(times["time_s"]) else float(times["captured_at"][0]) - float(times["time_s"][0])
    return {
        "SamplingFrequency": float(session.facts["clocks"]["frame_rate"]),
        "StartTime": 0.0,
        "Columns": names,
        "TaskName": TASK,
        "Manufacturer": "affectstream",
        "SoftwareVersions": session.facts["versions"].get("affectstream", ""),
        **{name: {"Description": _MEANINGS[name], "Units": "arbitrary"} for name in names},
        "ZeroAsUnixTime": zero,
        "Bundle": {key: session.facts["bundle"][key] for key in ("name", "sha256")},
        "Notes": session.facts["notes"] or "",
    }


def _write_events(session: SessionFolder, path: Path) -> None:
    rows = [(time_s, 0.0, "marker", text) for time_s, text in marker_points(session)]
    rows += [(word.start_s, word.end_s - word.start_s, "word", word.text) for word in session.words]
    lines = [f"{onset:.6f}\t{length:.6f}\t{kind}\t{text}" for onset, length, kind, text in sorted(rows)]
    path.write_text("\n".join(["onset\tduration\ttrial_type\tvalue", *lines]) + "\n", encoding="utf-8")


def _describe_data_set(session: SessionFolder, folder: Path, subject: str) -> list[Path]:
    description, people, readme = (
        folder / "dataset_description.json",
        folder / "participants.tsv",
        folder / "README",
    )
    written = []
    if not description.exists():
        _write_json(
            description,
            {
                "Name": "Valence and arousal as estimated by affectstream",
                "BIDSVersion": VERSION,
                "DatasetType": "raw",
                "GeneratedBy": [
                    {"Name": "affectstream", "Version": session.facts["versions"].get("affectstream", "")}
                ],
            },
        )
        written.append(description)
    if not readme.exists():
        readme.write_text(
            "Valence and arousal of people as affectstream estimated them from face, voice and words.\n"
            "They are estimates by a machine, with a spread beside each, and no measurement of a feeling.\n",
            encoding="utf-8",
        )
        written.append(readme)
    known = people.read_text(encoding="utf-8") if people.exists() else "participant_id\n"
    columns = known.splitlines()[0].count("\t")
    if f"sub-{subject}" not in [line.split("\t")[0] for line in known.splitlines()]:
        row = "\t".join([f"sub-{subject}", *[MISSING] * columns])
        people.write_text(known.rstrip("\n") + f"\n{row}\n", encoding="utf-8")
        written.append(people)
    return written


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
