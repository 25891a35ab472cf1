"""The table of systems and Pythons, drawn from what uv says; uv itself is stood in for."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from scripts import resolve
from scripts.resolve import Resolution, draw_table, shorten_reason

if TYPE_CHECKING:
    from pathlib import Path

NO_WHEEL = """error: No solution found when resolving dependencies
  cause: Because torch>=2.11.0 has no wheels with a matching platform tag (e.g., `macosx_14_0_x86_64`) and you
         require torch>=2.11, we can conclude that your requirements are unsatisfiable.

hint: Wheels are available for `torch` (v2.15.0) on the following platforms: `manylinux_2_28_aarch64`
"""
STAND_IN = """
import json, pathlib, sys
pathlib.Path({said!r}).open("a").write(json.dumps(sys.argv[1:]) + "\\n")
if "x86_64-apple-darwin" in sys.argv:
    sys.exit({failure!r})
print("torch==2.15.0\\nvosk==0.3.45\\nzipp==1.0")
"""


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the stand-in for uv was asked, a line each time."""
    said = tmp_path / "said.jsonl"
    script = tmp_path / "uv.py"
    script.write_text(STAND_IN.format(said=str(said), failure=NO_WHEEL))
    monkeypatch.setattr(resolve, "find_uv", lambda: [sys.executable, str(script)])
    return said


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (NO_WHEEL, "torch>=2.11.0 has no wheel for macosx_14_0_x86_64"),
        (
            "error: x\n  cause: Because all versions of srt have no usable wheels and vosk depends on srt, we can",
            "srt has no wheel",
        ),
        ("error: x\n  cause: The network is down", "The network is down"),
        ("", "uv said nothing"),
    ],
)
def test_a_failure_becomes_one_sentence(text: str, reason: str) -> None:
    assert shorten_reason(text) == reason


def test_every_cell_is_resolved_or_points_to_its_reason() -> None:
    table = draw_table(
        {
            ("linux", "3.11"): Resolution({"torch": "2.15.0", "vosk": "0.3.45"}),
            ("linux", "3.12"): Resolution({"numpy": "2"}),
            ("macos", "3.11"): Resolution({}, "no wheel"),
            ("macos", "3.12"): Resolution({}, "no wheel"),
        }
    )
    assert table == [
        "| | 3.11 | 3.12 |",
        "|---|---|---|",
        "| Linux x86-64 | torch 2.15.0, vosk 0.3.45 | resolved |",
        "| macOS x86-64 | no (1) | no (1) |",
        "\n(1) no wheel",
    ]


def test_all_systems_and_pythons_are_resolved_by_wheels(
    said: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["resolve", "--extra", "whisper"])
    assert resolve.main() == 0, "the gap is expected"
    asked = [json.loads(line) for line in said.read_text().splitlines()]
    assert len(asked) == 20
    assert all("--only-binary" in one and "--no-sources" in one and "whisper" in one for one in asked)
    table = capsys.readouterr().out
    assert table.count("torch 2.15.0, vosk 0.3.45") == 16
    assert table.count("no (1)") == 4
    assert "(1) torch>=2.11.0 has no wheel for macosx_14_0_x86_64" in table


def test_a_gap_that_nobody_expects_fails(said: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["resolve", "--platform", "macos", "--python", "3.13"])
    monkeypatch.setattr(resolve, "EXPECTED_GAPS", frozenset())
    assert resolve.main() == 1
