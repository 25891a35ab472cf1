"""The example of a service: a unit that systemd accepts, and a file of options that the command accepts."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.commands import RunCommand

FOLDER = Path(__file__).resolve().parent.parent.parent / "examples" / "systemd"
UNIT = FOLDER / "affectstream.service"
CONFIG = FOLDER / "config.toml"
EXPOSURE = 20
"""In tenths: what the unit may be exposed by systemd's own measure."""

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="no systemd-analyze (Debian's package systemd)"
)


def test_the_options_are_the_commands(run_command: RunCommand) -> None:
    ended = run_command("stream-run", "--config", CONFIG, "--show-config")
    table = tomllib.loads(ended.said)["stream-run"]
    assert {key: table[key] for key in ("camera", "bundle", "broker", "id", "view")} == {
        "camera": ["0"],
        "bundle": "people",
        "broker": "mqtt://affectstream@127.0.0.1:1883",
        "id": "desk",
        "view": "none",
    }
    assert f"# {CONFIG} [shared]" in ended.said


def test_its_variables_are_options_or_folders(run_command: RunCommand) -> None:
    set_by_unit = re.findall(r"\b(AFFECT_[A-Z_]+)=", UNIT.read_text(encoding="utf-8"))
    options = {
        f"AFFECT_{key.upper()}" for key in re.findall(r"^(?:# )?(\w+) =", _all_options(run_command), re.M)
    }
    assert set_by_unit
    assert set(set_by_unit) <= options | {"AFFECT_CACHE", "AFFECT_MODELS"}


def _all_options(run_command: RunCommand) -> str:
    return run_command("stream-run", "--config", "none", "--show-config").said


@needs_systemd
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    text = UNIT.read_text(encoding="utf-8").replace("/opt/affectstream/bin/stream-run", "/bin/true")
    unit = tmp_path / UNIT.name
    unit.write_text(text, encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert UNIT.name not in done.stderr, done.stderr


@needs_systemd
def test_little_is_open_to_it() -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={EXPOSURE}", UNIT],
        capture_output=True,
        text=True,
        check=False,
    )
    if "Unknown option" in done.stderr or "unrecognized option" in done.stderr:
        pytest.skip("this systemd measures no unit that is not loaded")
    assert done.returncode == 0, done.stdout[-400:] + done.stderr
