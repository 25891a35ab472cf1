"""A session and an LSL stream that was recorded beside it: each frame at the same moment, as they are and as XDF."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import pyxdf

from stream.export.xdf import write_xdf as export_xdf
from stream.session_folder.read import open_session_folder
from tests.commands import command_line
from tests.stream.lsl.recorder import recording, write_xdf
from tests.stream.lsl.test_sink import recorded

if TYPE_CHECKING:
    from pathlib import Path

CLOSE_S = 0.005
"""Far less than a frame."""


@pytest.mark.slow
def test_a_session_lines_up_with_an_lsl_stream_that_was_recorded_beside_it(
    pylsl: Any, fixtures: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "P07"
    clip = fixtures / "clips" / "weekly_address_5s.mp4"
    run = subprocess.Popen(
        command_line(
            *("stream-run", clip, "--bundle", "demo", "--accelerator", "eager", "--view", "none"),
            *("--lsl", "--lsl-name", "beside", "--session", folder),
        ),
        env=os.environ,
    )
    streams = [recorded(pylsl, name, 60) for name in ("beside", "beside settled")]
    with recording(*streams):
        assert run.wait(timeout=180) == 0
    session = open_session_folder(folder)
    write_xdf(tmp_path / "recorded.xdf", streams)
    export_xdf(session, tmp_path, "exported")
    live, _ = pyxdf.load_xdf(str(tmp_path / "recorded.xdf"), dejitter_timestamps=False)
    kept, _ = pyxdf.load_xdf(str(tmp_path / "exported.xdf"))
    for name, track, exported in (
        ("beside", "provisional", "affectstream"),
        ("beside settled", "settled", "affectstream settled"),
    ):
        stream = next(each for each in live if each["info"]["name"] == [name])
        export = next(each for each in kept if each["info"]["name"] == [exported])
        # A recorder misses what was sent before it had connected, and nothing after that.
        heard = len(stream["time_stamps"])
        assert heard > 90
        values = np.column_stack(
            [session.estimates[f"{track}_{what}"][-heard:] for what in ("valence", "arousal")]
        )
        np.testing.assert_allclose(stream["time_series"][:, :2], values, atol=1e-5)
        apart_s = stream["time_stamps"] - session.estimates["captured_monotonic_s"][-heard:]
        assert np.abs(apart_s).max() < CLOSE_S
        np.testing.assert_allclose(export["time_stamps"][-heard:], stream["time_stamps"], atol=CLOSE_S)
        # Of presence a session keeps the final word, which the provisional stream could not know.
        channels = slice(0, 4 if track == "provisional" else None)
        np.testing.assert_allclose(
            export["time_series"][-heard:, channels], stream["time_series"][:, channels], atol=1e-5
        )
