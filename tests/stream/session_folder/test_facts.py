"""`session.json`: everything one asks years later, and nothing secret."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from stream.session_folder.facts import is_session, options_shown, read_facts, without_secrets, write_facts
from tests.stream.sessions import facts

if TYPE_CHECKING:
    from pathlib import Path


def test_users_passwords_and_queries_of_addresses_are_left_out() -> None:
    said = json.dumps(
        facts(
            source="rtsp://me:secret@10.0.0.1/cam?token=secret",
            broker="mqtts://user:secret@broker.example:8883",
            publisher_id="desk",
        )
    )
    assert "secret" not in said
    assert "rtsp://***@10.0.0.1/cam?***" in said
    assert "mqtts://***@broker.example:8883" in said
    assert '"publisher_id": "desk"' in said


def test_options_whose_name_says_secret_are_left_out() -> None:
    @dataclass(frozen=True)
    class Options:
        page_token: str = "abc"  # noqa: S105
        broker_password: str | None = None
        rate: float = 3.0

    assert options_shown(Options()) == {"page_token": "***", "broker_password": None, "rate": 3.0}  # type: ignore[arg-type]


def test_what_ran_is_there(tmp_path: Path) -> None:
    write_facts(tmp_path, facts(notes="two lines\nof notes"))
    read = read_facts(tmp_path)
    assert read["participant"] == "P-07"
    assert read["notes"] == "two lines\nof notes"
    assert read["bundle"]["sha256"] == "ab" * 32
    assert read["versions"]["affectstream"]
    assert read["versions"]["torch"]
    assert read["source"]["asked"] == "talk.mp4"
    assert read["source"]["given"]["frame_rate"] == 30.0
    apart_s = read["began"]["at"] - read["began"]["monotonic_s"]
    assert apart_s == pytest.approx(read["clocks"]["unix_minus_monotonic_s"], abs=2e-6)
    assert read["options"]["input"]["accelerator"] == "eager"
    assert read["ended"] is None
    assert is_session(tmp_path)
    assert not is_session(tmp_path / "nothing")
    assert [path.name for path in tmp_path.iterdir()] == ["session.json"]


def test_what_json_cannot_hold_is_said_as_text(tmp_path: Path) -> None:
    assert without_secrets({"a": (1, tmp_path)}) == {"a": [1, str(tmp_path)]}
