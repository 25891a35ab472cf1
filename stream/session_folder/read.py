"""A session's folder read again, years later; and where a run was cut, mended on the way."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from filelock import FileLock, Timeout

from models.errors import UserError
from stream.session_folder.facts import moment, read_facts, write_facts
from stream.session_folder.layout import (
    ESTIMATES,
    EVENT_COLUMNS,
    EVENTS,
    LOCK,
    MEDIA,
    PARQUET,
    REVISION,
    ROOM,
    TEMPORARY,
    UNSETTLED_ESTIMATES,
    UNSETTLED_WORDS,
    WORD_COLUMNS,
    WORDS,
    Column,
    estimate_columns,
    header,
)
from stream.session_folder.parquet import make_parquet

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from stream.session_folder.facts import Facts

CLOSED: Final = ("complete", "incomplete", "cut")
"""States of a folder that its run brought to an end, or that was mended since."""


@dataclass(frozen=True)
class SessionWord:
    """A word of a session; times in media seconds."""

    utterance: int
    text: str
    start_s: float
    end_s: float
    confidence: float | None
    settled: bool


@dataclass(frozen=True)
class SessionEvent:
    """Something that happened beside the estimates: `kind` is marker, phase, input, rung or drop."""

    time_s: float | None
    at: float
    monotonic_s: float
    kind: str
    name: str
    value: str
    detail: str


@dataclass(frozen=True)
class SessionFolder:
    """A session, complete or mended. `notes` say, a line each, what was cut or lost."""

    path: Path
    facts: Facts
    notes: tuple[str, ...] = ()

    @property
    def was_cut(self) -> bool:
        """Whether the run ended without closing the folder: killed, or the power gone."""
        return bool(self.facts["state"] == "cut")

    @property
    def folds(self) -> int:
        """How many folds the bundle had."""
        return int(self.facts["bundle"]["folds"])

    @cached_property
    def estimates(self) -> Mapping[str, NDArray[Any]]:
        """The columns of the estimates by name, a value a frame; empty cells are NaN, of texts None."""
        import pyarrow.parquet

        table = pyarrow.parquet.read_table(self.path / PARQUET)
        return {name: _array(table.column(name)) for name in table.column_names}

    @cached_property
    def words(self) -> tuple[SessionWord, ...]:
        """What was said, in order."""
        return tuple(
            SessionWord(
                int(row["utterance"]),
                row["text"],
                float(row["start_s"]),
                float(row["end_s"]),
                float(row["confidence"]) if row["confidence"] else None,
                row["settled"] == "true",
            )
            for row in _rows(self.path / WORDS, WORD_COLUMNS)
        )

    @cached_property
    def events(self) -> tuple[SessionEvent, ...]:
        """What happened, in order."""
        return tuple(
            SessionEvent(
                float(row["time_s"]) if row["time_s"] else None,
                float(row["at"]),
                float(row["monotonic_s"]),
                row["kind"],
                row["name"],
                row["value"],
                row["detail"],
            )
            for row in _rows(self.path / EVENTS, EVENT_COLUMNS)
        )

    @property
    def markers(self) -> tuple[SessionEvent, ...]:
        """The moments that somebody marked."""
        return tuple(event for event in self.events if event.kind == "marker")

    @property
    def pauses_s(self) -> tuple[tuple[float, float], ...]:
        """From when to when the run was paused, in seconds since the Unix epoch."""
        phases = [event for event in self.events if event.kind == "phase"]
        return tuple((one.at, after.at) for one, after in pairwise(phases) if one.value == "paused")

    @property
    def media(self) -> Path | None:
        """The file with picture and sound, where they were kept."""
        path = self.path / MEDIA
        return path if path.is_file() else None


def open_session_folder(path: str | Path) -> SessionFolder:
    """Reads a folder that `stream-run --session` wrote; one whose run was cut is first mended, and says so.

    Raises UserError where it holds no session, one that is still being recorded, or one to mend that cannot be
    written.
    """
    path = Path(path)
    facts = read_facts(path)
    if facts["state"] in CLOSED and (path / PARQUET).is_file():
        return SessionFolder(path, facts, _notes(facts))
    lock = FileLock(path / LOCK, timeout=0)
    try:
        with lock:
            facts = _mend(path, read_facts(path))
        for name in (LOCK, ROOM):
            (path / name).unlink(missing_ok=True)
    except Timeout:
        raise UserError(f"the session {path} is still being recorded: open it when it has ended") from None
    except OSError as error:
        raise UserError(
            f"the session {path} was cut and cannot be mended there ({error.strerror or error}): "
            "copy it to where you can write"
        ) from None
    return SessionFolder(path, facts, _notes(facts))


def _notes(facts: Facts) -> tuple[str, ...]:
    notes = []
    if facts["state"] == "cut":
        cut = facts["cut"]
        notes.append(
            f"the run was cut: it ended without closing this session; {cut['frames']} frames are kept, "
            f"{cut['unsettled']} of them without a settled estimate"
        )
        if cut["damaged_lines"]:
            notes.append(f"{cut['damaged_lines']} damaged lines were left out")
    lost = {name: n for name, n in facts["totals"].get("drops", {}).items() if name.startswith("session_")}
    if lost:
        notes.append(
            "not everything could be written: " + ", ".join(f"{name} {n}" for name, n in lost.items())
        )
    if facts["ended"] and facts["ended"].get("by") == "failure":
        notes.append(f"the run failed: {facts['ended']['why']}")
    return tuple(notes)


def _mend(path: Path, facts: Facts) -> Facts:
    """Takes what was not final into the tables, makes the Parquet file, and notes that the run was cut."""
    columns = estimate_columns(int(facts["bundle"]["folds"]))
    damaged = _mend_lines(path / ESTIMATES, columns) + _mend_lines(path / WORDS, WORD_COLUMNS)
    damaged += _mend_lines(path / EVENTS, EVENT_COLUMNS)
    frames = [int(row["frame"]) for row in _rows(path / ESTIMATES, columns)]
    last = frames[-1] if frames else -1
    late = {
        int(row["frame"]): row
        for row in _rows(path / UNSETTLED_ESTIMATES, columns)
        if row["frame"].isdigit() and int(row["frame"]) > last
    }
    _append(path / ESTIMATES, columns, [late[frame] for frame in sorted(late)])
    known = {row["utterance"] for row in _rows(path / WORDS, WORD_COLUMNS)}
    _append(path / WORDS, WORD_COLUMNS, _last_revisions(path / UNSETTLED_WORDS, known))
    unsettled = sum(not row["settled_valence"] for row in _rows(path / ESTIMATES, columns))
    events = list(_rows(path / EVENTS, EVENT_COLUMNS))
    if facts["state"] not in CLOSED:
        facts["state"] = "cut"
        newest = max(
            [float(row["at"]) for row in events] + [float(r["captured_at"]) for r in late.values()] or [0.0]
        )
        facts["ended"] = {
            **moment(newest),
            "by": "cut",
            "why": "the process ended without closing the session",
        }
        facts["cut"] = {
            "frames": len(frames) + len(late),
            "unsettled": unsettled,
            "damaged_lines": damaged,
            "mended": moment(_now()),
        }
    skipped = make_parquet(path, facts)
    if skipped and "cut" in facts:
        facts["cut"]["damaged_lines"] += skipped
    write_facts(path, facts)
    for name in TEMPORARY:
        (path / name).unlink(missing_ok=True)
    return facts


def _now() -> float:
    import time

    return time.time()


def _mend_lines(path: Path, columns: Sequence[Column]) -> int:
    """Leaves out of a table what is no whole row of it, and says how many lines that were."""
    first = header(tuple(columns)).encode()
    content = path.read_bytes() if path.is_file() else b""
    lines = content.splitlines(keepends=True)
    whole = [each for each in lines[1:] if each.endswith(b"\n") and _is_row(each, columns)]
    if lines[:1] == [first] and len(whole) == len(lines) - 1:
        return 0
    beside = path.with_name(f".{path.name}.part")
    beside.write_bytes(first + b"".join(whole))
    beside.replace(path)
    return max(0, len(lines) - 1 - len(whole))


def _is_row(text: bytes, columns: Sequence[Column]) -> bool:
    try:
        cells = next(csv.reader([text.decode()]))
        if len(cells) != len(columns):
            return False
        for cell, column in zip(cells, columns, strict=True):
            if cell and column.dtype in ("int", "float"):
                float(cell)
    except (ValueError, csv.Error, StopIteration):
        return False
    return True


def _last_revisions(path: Path, settled: set[str]) -> list[dict[str, str]]:
    """The newest rows of each utterance that is not among the settled ones."""
    newest: dict[str, tuple[int, list[dict[str, str]]]] = {}
    for row in _rows(path, (REVISION, *WORD_COLUMNS)):
        if not row[REVISION.name].isdigit() or row["utterance"] in settled:
            continue
        revision = int(row[REVISION.name])
        if row["utterance"] not in newest or newest[row["utterance"]][0] < revision:
            newest[row["utterance"]] = (revision, [])
        newest[row["utterance"]][1].append(row)
    # A revision without words leaves none of the utterance.
    return [row for _, rows in newest.values() for row in rows if row["word"]]


def _append(path: Path, columns: Sequence[Column], rows: Sequence[dict[str, str]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([row[column.name] for column in columns] for row in rows)
    with path.open("a", encoding="utf-8") as file:
        file.write(text.getvalue())


def _rows(path: Path, columns: Sequence[Column]) -> Iterator[dict[str, str]]:
    """The whole rows of a table, by column; none where there is no such file."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        reader = csv.reader(line.replace("\0", "") for line in file)
        next(reader, None)
        names = [column.name for column in columns]
        for cells in reader:
            if len(cells) == len(names):
                yield dict(zip(names, cells, strict=True))


def _array(column: Any) -> NDArray[Any]:
    values = column.to_numpy()
    return np.asarray(values)
