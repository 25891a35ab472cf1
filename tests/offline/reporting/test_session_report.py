"""A report on sessions: a page that needs no other file, with what one would put in a paper."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import numpy as np
import pytest

from offline.reporting.session_figures import with_gaps
from offline.reporting.session_report import make_session_report
from stream.session_folder.layout import FACTS, PARQUET
from tests.stream.sessions import keep_session

if TYPE_CHECKING:
    from pathlib import Path

    from tests.commands import RunCommand


async def test_a_page_with_the_course_and_the_plane(tmp_path: Path, run_command: RunCommand) -> None:
    session = await keep_session(tmp_path / "P07", 90, unsettled=10, notes="first <visit>")
    said = run_command("offline-report", tmp_path / "P07").said
    folder = tmp_path / "P07" / "report"
    assert f"written: {folder / 'report.html'}" in said
    assert sorted(path.name for path in folder.iterdir()) == [
        "P07-course.png",
        "P07-plane.png",
        "report.html",
    ]
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert not re.search(r"(src|href)=\"(?!data:)", page), "it needs no other file"
    for shown in (
        "P-07",
        "first &lt;visit&gt;",
        "a question",
        "90, of them 10 not settled",
        "good for tests",
    ):
        assert shown in page, shown
    again = make_session_report([session], ["P07"])
    assert again.figures["P07-plane.png"] == (folder / "P07-plane.png").read_bytes()


async def test_a_cut_session_is_mended_and_says_so(tmp_path: Path, run_command: RunCommand) -> None:
    await keep_session(tmp_path / "cut", 30)
    facts = json.loads((tmp_path / "cut" / FACTS).read_text())
    (tmp_path / "cut" / FACTS).write_text(json.dumps({**facts, "state": "recording", "ended": None}))
    (tmp_path / "cut" / PARQUET).unlink()
    await keep_session(tmp_path / "whole", 0)
    ended = run_command("offline-report", tmp_path / "cut", tmp_path / "whole", "--out", tmp_path / "report")
    assert ended.status == 0
    assert "cut: the run was cut" in ended.err
    page = (tmp_path / "report" / "report.html").read_text()
    assert "the run was cut" in page
    assert "It has no frames" in page


async def test_sessions_and_runs_do_not_mix(tmp_path: Path, run_command: RunCommand) -> None:
    await keep_session(tmp_path / "s", 3)
    assert "give sessions only" in run_command("offline-report", tmp_path / "s", tmp_path).said


@pytest.mark.parametrize("missing", [(), (3,), (3, 4, 5)])
def test_no_line_bridges_what_was_not_seen(missing: tuple[int, ...]) -> None:
    frames = np.array([index for index in range(10) if index not in missing], np.float64)
    times, values = with_gaps(frames / 30, 1 / 30, frames)
    assert int(np.isnan(values).sum()) == bool(missing)
    assert not np.isnan(times).any()
    assert (np.diff(times) > 0).all()
