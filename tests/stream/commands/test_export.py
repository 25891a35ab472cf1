"""`stream-export`: what it writes where, what it refuses, and that a cut session is mended first."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.stream.sessions import keep_session

if TYPE_CHECKING:
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


@pytest.mark.parametrize("form", ["elan", "praat", "xdf"])
async def test_what_another_session_or_form_wrote_is_in_nobodys_way(
    form: str, tmp_path: Path, run_command: RunCommand
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for other in ("P10.eaf", "P10.TextGrid", "P10.xdf", "P1.wav", "[P1].eaf"):
        (out / other).write_text("")
    for name in ("P1", "[P1"):
        await keep_session(tmp_path / name, 3)
        assert "written: " in run_command("stream-export", tmp_path / name, "--to", form, "--out", out).said
        assert "overwritten" in run_command("stream-export", tmp_path / name, "--to", form, "--out", out).said


async def test_a_disk_that_fills_leaves_nothing_in_the_way(
    tmp_path: Path, run_command: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    await keep_session(tmp_path / "P07", 10)
    whole = Path.write_text

    def half(path: Path, text: str, **how: str) -> int:
        whole(path, text[: len(text) // 2], **how)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", half)
        assert "No space left" in run_command("stream-export", tmp_path / "P07", "--to", "praat").said
    assert "written: " in run_command("stream-export", tmp_path / "P07", "--to", "praat").said


async def test_a_session_without_frames_is_one_clear_line(tmp_path: Path, run_command: RunCommand) -> None:
    await keep_session(tmp_path / "P07", 0)
    assert "has no frames" in run_command("stream-export", tmp_path / "P07", "--to", "praat").said
    assert not (tmp_path / "P07" / "praat").exists()


async def test_a_damaged_table_is_one_clear_line(tmp_path: Path, run_command: RunCommand) -> None:
    await keep_session(tmp_path / "P07", 9)
    parquet = tmp_path / "P07" / "estimates.parquet"
    parquet.write_bytes(parquet.read_bytes()[:-100])
    assert "is damaged: remove it" in run_command("stream-export", tmp_path / "P07", "--to", "praat").said
    parquet.unlink()
    assert "written: " in run_command("stream-export", tmp_path / "P07", "--to", "praat").said
    parquet.unlink()
    table = tmp_path / "P07" / "estimates.csv"
    changed = table.read_text().replace("true", "yes")
    table.write_text(changed)
    assert (
        "not the table that was written" in run_command("stream-export", tmp_path / "P07", "--to", "xdf").said
    )
    assert table.read_text() == changed


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
