"""`stream-export`: what it writes where, what it refuses, and that a cut session is mended first."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.stream.sessions import keep_session

if TYPE_CHECKING:
    from pathlib import Path

    from tests.commands import RunCommand


@pytest.mark.parametrize(
    ("form", "written"),
    [
        ("elan", "elan/P07.eaf"),
        ("praat", "praat/P07.TextGrid"),
        ("bids", "bids/sub-P07/beh/sub-P07_task-affect_physio.tsv.gz"),
        ("xdf", "xdf/P07.xdf"),
    ],
)
async def test_it_says_what_it_wrote_and_overwrites_nothing(
    form: str, written: str, tmp_path: Path, run_command: RunCommand
) -> None:
    await keep_session(tmp_path / "P07", 10)
    said = run_command("stream-export", tmp_path / "P07", "--to", form).said
    assert f"written: {tmp_path / 'P07' / written}\n" in said
    assert (tmp_path / "P07" / written).is_file()
    assert "overwritten" in run_command("stream-export", tmp_path / "P07", "--to", form).said
    out = tmp_path / "out"
    assert str(out) in run_command("stream-export", tmp_path / "P07", "--to", form, "--out", out).said


def test_what_is_no_session_is_one_clear_line(tmp_path: Path, run_command: RunCommand) -> None:
    assert "holds no session" in run_command("stream-export", tmp_path, "--to", "elan").said


async def test_a_place_that_cannot_be_written_is_one_clear_line(
    tmp_path: Path, run_command: RunCommand
) -> None:
    await keep_session(tmp_path / "P07", 3)
    (tmp_path / "file").write_text("")
    said = run_command("stream-export", tmp_path / "P07", "--to", "xdf", "--out", tmp_path / "file").said
    assert "cannot write to" in said


def test_help_does_not_wait_for_anything() -> None:
    probe = "import sys, stream.commands.export; print({'torch', 'pyarrow', 'numpy'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"
