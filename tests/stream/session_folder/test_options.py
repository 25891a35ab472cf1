"""What `--session` may be asked for: one line before anything is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from models.errors import UserError
from stream import extras
from stream.session_folder.options import check_session
from tests.commands import run_in_own_process

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"participant": "P07"}, "--participant is kept in a session's folder"),
        ({"notes": "x"}, "--notes is kept"),
        ({"keep_media": True}, "--keep-media is kept"),
        ({"folder": "new", "participant": "two\nlines"}, "--participant is one line"),
        ({"folder": "new", "participant": " "}, "--participant is one line"),
        ({"folder": "new", "notes": "x" * 10_001}, "at most 10000 characters"),
        ({"folder": "."}, "no session is overwritten"),
    ],
)
def test_what_cannot_be_is_refused(asked: dict[str, object], named: str, tmp_path: Path) -> None:
    (tmp_path / "something").write_text("")
    folder = None if "folder" not in asked else tmp_path / str(asked["folder"])
    given = {"participant": None, "notes": None, "keep_media": False, **asked, "folder": folder}
    with pytest.raises(UserError, match=named) as refused:
        check_session(**given)  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)


def test_without_pyarrow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'affectstream\[session\]'"):
        check_session(tmp_path / "s", None, None, keep_media=False)
    check_session(None, None, None, keep_media=False)


def test_the_command_refuses_before_it_loads_anything(tmp_path: Path) -> None:
    (tmp_path / "something").write_text("")
    ran = run_in_own_process("stream-run", "--demo", "--session", tmp_path, timeout_s=30)
    assert ran.returncode == 2
    assert ran.stderr.count("\n") == 1
    assert "no session is overwritten" in ran.stderr
