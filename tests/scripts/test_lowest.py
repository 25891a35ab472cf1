"""Lower bounds held to what was installed; uv itself is stood in for."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from scripts import lowest
from scripts.lowest import find_unreached, read_requirements

if TYPE_CHECKING:
    from pathlib import Path

FROZEN = """numpy==2.0.0
opencv-python-headless==4.13.0.90
psutil==7.0.0
torch==2.11.0+cpu
types-jsonschema==4.23.0.20240712
"""
STAND_IN = """
import pathlib, sys
pathlib.Path({said!r}).open("a").write(" ".join(sys.argv[1:]) + "\\n")
if "freeze" in sys.argv:
    print("numpy==2.0.0\\nrich==99.0.0")
"""


def test_bounds_that_were_installed_are_reached() -> None:
    bounds = [
        "numpy>=2",
        "torch>=2.11",
        "opencv-python-headless>=4.13,<5",
        "types-jsonschema>=4.23",
        "absent>=1",
    ]
    assert find_unreached(bounds, FROZEN) == []


def test_a_bound_below_everything_that_can_be_installed_is_named_with_what_was() -> None:
    assert find_unreached(["numpy>=2", "psutil>=6; sys_platform == 'linux'"], FROZEN) == [
        "psutil>=6; sys_platform == 'linux': psutil 7.0.0 is the oldest"
    ]


def test_every_requirement_but_the_package_itself_is_read_with_its_bound() -> None:
    unread = [line for line in read_requirements() if not lowest.BOUND.match(line)]
    assert all(line.startswith("affectstream[") for line in unread), unread


def test_nothing_is_run_on_bounds_that_were_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said, script = tmp_path / "said.txt", tmp_path / "uv.py"
    script.write_text(STAND_IN.format(said=str(said)))
    monkeypatch.setattr(lowest, "find_uv", lambda: [sys.executable, str(script)])
    monkeypatch.setattr("sys.argv", ["lowest", str(tmp_path / "made")])
    assert lowest.main() == 1
    assert "rich>=14" in capsys.readouterr().err
    made, installed, frozen = said.read_text().splitlines()
    assert "--seed" in made
    assert "--resolution lowest-direct" in installed
    assert frozen.startswith("pip freeze")
    assert not list(tmp_path.glob("made/*")), "the demo would have been played"


def test_a_step_that_fails_ends_it_with_its_status() -> None:
    with pytest.raises(SystemExit) as ended:
        lowest.run(sys.executable, "-c", "raise SystemExit(7)")
    assert ended.value.code == 7
