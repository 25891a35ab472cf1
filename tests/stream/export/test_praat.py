"""A Praat TextGrid, read back by praatio."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from praatio import textgrid

from stream.export.praat import write_praat
from tests.stream.sessions import with_markers

if TYPE_CHECKING:
    from pathlib import Path

    from stream.session_folder.read import SessionFolder


def test_praatio_reads_every_tier_back(session: SessionFolder, tmp_path: Path) -> None:
    written = write_praat(session, tmp_path, "P07")
    assert [path.name for path in written] == ["P07.TextGrid"]
    grid = textgrid.openTextgrid(str(written[0]), includeEmptyIntervals=False)
    assert list(grid.tierNames) == ["words", "face", "voice", "valence", "arousal", "markers"]
    assert (grid.minTimestamp, grid.maxTimestamp) == (0, pytest.approx(3.0))
    assert [tuple(entry) for entry in grid.getTier("words").entries] == [
        (0.2, 0.5, "hello"),
        (0.5, 0.8, 'quite "nice", really'),
    ]
    assert [tuple(entry) for entry in grid.getTier("voice").entries] == [(0, 1, "voice")]
    assert [entry.label for entry in grid.getTier("arousal").entries] == ["+0.36", "+0.05", "-0.24"]
    # praatio leaves doubled quotation marks of points as they are in the file, Praat itself does not.
    assert [(p.time, p.label.replace('""', '"')) for p in grid.getTier("markers").entries] == [
        (1.0, "a question"),
        (2.5, 'said "stop", left'),
    ]


def test_praat_itself_reads_it(session: SessionFolder, tmp_path: Path) -> None:
    parselmouth = pytest.importorskip("parselmouth", reason="Praat's own code is not installed")
    marked = with_markers(session, (1.0, 'said "stop"'), (1.0, "at once"), (4.0, "late"))
    grid = parselmouth.read(str(write_praat(marked, tmp_path, "P07")[0]))

    def ask(query: str, *given: int) -> object:
        return parselmouth.praat.call(grid, query, *given)

    assert [ask("Get tier name", tier) for tier in range(1, 7)] == [
        *("words", "face", "voice", "valence", "arousal", "markers")
    ]
    assert [ask("Get label of interval", 1, number) for number in range(1, 5)] == [
        *("", "hello", 'quite "nice", really', "")
    ]
    points = [(ask("Get time of point", 6, n), ask("Get label of point", 6, n)) for n in range(1, 4)]
    assert points == [(1.0, "at once"), (1.001, 'said "stop"'), (4.0, "late")]


def test_markers_after_the_last_frame_stay_where_they_are(session: SessionFolder, tmp_path: Path) -> None:
    marked = with_markers(session, (1.0, "early"), (4.0, "late"), (5.5, "later"))
    grid = textgrid.openTextgrid(str(write_praat(marked, tmp_path, "P07")[0]), includeEmptyIntervals=True)
    assert [tuple(point) for point in grid.getTier("markers").entries] == [
        *((1.0, "early"), (4.0, "late"), (5.5, "later"))
    ]
    assert grid.getTier("face").entries[-1].end == pytest.approx(5.5)


def test_intervals_fill_the_whole_time(session: SessionFolder, tmp_path: Path) -> None:
    grid = textgrid.openTextgrid(str(write_praat(session, tmp_path, "P07")[0]), includeEmptyIntervals=True)
    for name in ("words", "face", "voice", "valence"):
        entries = grid.getTier(name).entries
        assert entries[0].start == 0
        assert entries[-1].end == pytest.approx(3.0)
        assert all(one.end == after.start for one, after in itertools.pairwise(entries))
