"""A Praat TextGrid, read back by praatio."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from praatio import textgrid

from stream.export.praat import write_praat

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


def test_intervals_fill_the_whole_time(session: SessionFolder, tmp_path: Path) -> None:
    grid = textgrid.openTextgrid(str(write_praat(session, tmp_path, "P07")[0]), includeEmptyIntervals=True)
    for name in ("words", "face", "voice", "valence"):
        entries = grid.getTier(name).entries
        assert entries[0].start == 0
        assert entries[-1].end == pytest.approx(3.0)
        assert all(one.end == after.start for one, after in itertools.pairwise(entries))
