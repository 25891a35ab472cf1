"""What a session's folder holds: the names of its files, the columns of its tables and what each means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from models.spec import TARGETS

SCHEMA: Final = 1
KIND: Final = "affectstream session"
"""What `session.json` calls itself, so that no other file of that name is taken for one."""

FACTS: Final = "session.json"
ESTIMATES: Final = "estimates.csv"
PARQUET: Final = "estimates.parquet"
WORDS: Final = "words.csv"
EVENTS: Final = "events.csv"
MEDIA: Final = "media.mkv"
UNSETTLED_ESTIMATES: Final = "unsettled_estimates.csv"
UNSETTLED_WORDS: Final = "unsettled_words.csv"
LOCK: Final = ".recording"
"""Locked by the process that records, so that nobody mends what is still being written."""

ROOM: Final = ".room"
"""Room on the disk for the last words of a session whose disk is full; given up at the end."""

ROOM_BYTES: Final = 65_536

TEMPORARY: Final = (UNSETTLED_ESTIMATES, UNSETTLED_WORDS)
"""There only while a run goes on, or where it was cut: what is not final yet."""

Dtype = Literal["int", "float", "bool", "text"]

Value = int | float | bool | str | None
"""What a cell of a table holds; None is an empty cell."""

DECIMALS: Final = 6


@dataclass(frozen=True)
class Column:
    """A column of a table: its name, what its cells are, and what they mean."""

    name: str
    dtype: Dtype
    meaning: str


_PAIRS: Final = (
    ("provisional", "the estimate given at once, with the words known then"),
    ("settled", "the final estimate; empty where the run ended before the frame settled"),
)


def estimate_columns(folds: int) -> tuple[Column, ...]:
    """The columns of the estimates of a bundle with so many folds: a row a frame."""
    columns = [
        Column("frame", "int", "the frame's number, from 0"),
        Column("time_s", "float", "media time in seconds from the source's first frame"),
        Column("captured_at", "float", "when it was captured: seconds since the Unix epoch"),
        Column(
            "captured_monotonic_s", "float", "the same moment on this machine's monotonic clock, in seconds"
        ),
    ]
    said = "spread of it: between the folds, or of a calibrated bundle the error to expect"
    for track, meaning in _PAIRS:
        columns += [Column(f"{track}_{what}", "float", f"in [-1, 1]: {meaning}") for what in TARGETS]
        columns += [Column(f"{track}_{what}_spread", "float", said) for what in TARGETS]
    for fold in range(folds):
        said = (
            "the fold's own output, unclipped, as settled where the frame has settled; empty where it rested"
        )
        columns += [Column(f"fold_{fold}_{what}", "float", said) for what in TARGETS]
    columns += [
        Column("face", "bool", "whether a face was seen"),
        Column("voice", "bool", "whether a voice was heard, as settled where the frame has settled"),
        Column("words", "bool", "whether a word was being said, as settled where the frame has settled"),
        Column("rung", "text", "what the machine computed: full, or the rung that spared something"),
        Column(
            "latency_ms", "float", "from capture to the provisional estimate; empty where it means nothing"
        ),
    ]
    return tuple(columns)


WORD_COLUMNS: Final = (
    Column("utterance", "int", "which utterance of the run, from 0"),
    Column("word", "int", "which word of the utterance, from 0"),
    Column("text", "text", "as the recogniser understood it"),
    Column("start_s", "float", "media time of its beginning"),
    Column("end_s", "float", "media time of its end"),
    Column("confidence", "float", "how sure the recogniser was, 0 to 1; empty where it does not say"),
    Column("settled", "bool", "whether it could still have changed when the run ended"),
)

EVENT_COLUMNS: Final = (
    Column("time_s", "float", "media time; empty before the first frame"),
    Column("at", "float", "seconds since the Unix epoch"),
    Column("monotonic_s", "float", "the same moment on this machine's monotonic clock, in seconds"),
    Column("kind", "text", "marker, phase, input, rung or drop"),
    Column("name", "text", "of a marker the way it came, of an input or a drop which"),
    Column("value", "text", "the marker's text, the new phase, health or rung, how many were dropped"),
    Column("detail", "text", "what more there is to say, in words"),
)

REVISION: Final = Column("revision", "int", "a later one replaces the whole utterance")
"""Before a word's columns, in the file of words that are not final yet."""


def header(columns: tuple[Column, ...]) -> str:
    """The first line of a table."""
    return ",".join(column.name for column in columns) + "\n"


def line(values: tuple[Value, ...]) -> str:
    """A line of a table (RFC 4180)."""
    return ",".join(map(_cell, values)) + "\n"


def _cell(value: Value) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(round(value, DECIMALS))
    if isinstance(value, int):
        return str(value)
    # A text stays on one line, so that a file that was cut can be mended line by line.
    text = " ".join(value.split())
    return f'"{text.replace(chr(34), chr(34) * 2)}"' if any(c in text for c in ',"') else text
