"""An XDF file, read back by pyxdf: every sample at the moment of its capture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import pyxdf

from stream.export.xdf import write_xdf
from tests.stream.sessions import keep_session

if TYPE_CHECKING:
    from pathlib import Path

    from stream.session_folder.read import SessionFolder


def read(path: Path) -> dict[str, Any]:
    streams, _ = pyxdf.load_xdf(str(path))
    return {stream["info"]["name"][0]: stream for stream in streams}


def test_pyxdf_reads_every_stream_back(session: SessionFolder, tmp_path: Path) -> None:
    streams = read(write_xdf(session, tmp_path, "P07")[0])
    assert list(streams) == [
        *("affectstream", "affectstream settled", "affectstream words", "affectstream markers")
    ]
    provisional, settled = streams["affectstream"], streams["affectstream settled"]
    monotonic = session.estimates["captured_monotonic_s"]
    np.testing.assert_array_equal(provisional["time_stamps"], monotonic)
    np.testing.assert_array_equal(settled["time_stamps"], monotonic[:80])
    labels = [c["label"][0] for c in provisional["info"]["desc"][0]["channels"][0]["channel"]]
    assert labels == ["valence", "arousal", "valence_spread", "arousal_spread", "face", "voice", "words"]
    column = settled["time_series"][:, labels.index("valence")]
    np.testing.assert_allclose(column, session.estimates["settled_valence"][:80], rtol=1e-6)
    assert provisional["time_series"][:, labels.index("voice")].tolist() == [1.0] * 30 + [0.0] * 60
    markers = streams["affectstream markers"]
    assert [text for (text,) in markers["time_series"]] == ["a question", 'said "stop", left']
    assert markers["time_stamps"] == pytest.approx(monotonic[[30, 75]], abs=0.001)
    words = streams["affectstream words"]
    assert words["time_stamps"] == pytest.approx(monotonic[[6, 15]], abs=0.001)


async def test_a_long_session_and_an_empty_one(tmp_path: Path) -> None:
    long = await keep_session(tmp_path / "long", 3000)
    streams = read(write_xdf(long, tmp_path, "long")[0])
    assert len(streams["affectstream settled"]["time_stamps"]) == 3000
    empty = await keep_session(tmp_path / "empty", 0)
    assert len(read(write_xdf(empty, tmp_path, "empty")[0])["affectstream settled"]["time_stamps"]) == 0


async def test_a_recording_replayed_as_fast_as_possible_lies_as_it_plays(tmp_path: Path) -> None:
    session = await keep_session(tmp_path / "s", 30)
    session.facts["options"]["input"]["pace"] = "fast"
    times = read(write_xdf(session, tmp_path, "s")[0])["affectstream settled"]["time_stamps"]
    assert np.diff(times) == pytest.approx([1 / 30] * 29, abs=1e-5)
    assert times[0] == pytest.approx(session.facts["began"]["monotonic_s"])
