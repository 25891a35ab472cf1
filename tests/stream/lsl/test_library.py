"""What is said where liblsl or its binding is missing, and options that cannot be had together."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from models.errors import UserError
from stream.lsl.library import check_lsl, library_way_out
from tests.commands import run_in_own_process

PACKAGES = {
    "linux": "conda install -c conda-forge liblsl",
    "darwin": "brew install labstreaminglayer/tap/lsl",
    "win32": "wheel",
    "plan9": "build it",
}


@pytest.mark.parametrize("platform", PACKAGES)
def test_each_system_is_told_its_package(platform: str) -> None:
    assert PACKAGES[platform] in library_way_out(platform)
    assert "PYLSL_LIB" in library_way_out(platform)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"lsl": False, "name": "lab"}, "--lsl"),
        ({"lsl": True, "name": " "}, "printable text"),
        ({"lsl": True, "name": "a\nb"}, "printable text"),
        ({"lsl": True, "pace": "fast"}, "--pace fast"),
        ({"lsl": False, "markers": True, "pace": "fast"}, "--pace fast"),
    ],
)
def test_options_that_cannot_be_had_are_refused_in_words(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        check_lsl(**({"name": None, "markers": False, "pace": "live"} | asked))


def test_without_liblsl_one_line_names_the_package(tmp_path: Path) -> None:
    broken = tmp_path / "liblsl.so"
    broken.write_text("no library")
    ran = subprocess.run(
        [sys.executable, "-c", "from stream.commands.run import command; command()", "--demo", "--lsl"],
        env={**os.environ, "PYLSL_LIB": str(broken)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 2
    assert ran.stderr.count("\n") == 1
    assert "liblsl" in ran.stderr
    assert library_way_out() in ran.stderr


def test_without_the_extra_one_line_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import sys; sys.modules['pylsl'] = None; from stream.commands.run import command; command()"
    ran = subprocess.run(
        [sys.executable, "-c", code, "--demo", "--lsl-markers"], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 2
    assert ran.stderr.count("\n") == 1
    assert "pip install 'affectstream[lsl]'" in ran.stderr


def test_liblsl_says_nothing_where_nobody_configured_it(tmp_path: Path) -> None:
    code = (
        "from stream.lsl.library import load_pylsl; lsl = load_pylsl(); lsl.local_clock();"
        "lsl.StreamInfo('x', 'y', 1, 0, lsl.cf_float32, 'z')"
    )
    env = {name: value for name, value in os.environ.items() if name != "LSLAPICFG"}
    repository = Path(__file__).resolve().parents[3]
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={**env, "HOME": str(tmp_path), "PYTHONPATH": str(repository)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stderr == ""


def test_a_run_without_lsl_loads_none_of_it() -> None:
    ran = run_in_own_process("stream-run", "--help")
    assert ran.returncode == 0
    code = "import sys, stream.commands.run, stream.build; print({'pylsl', 'prometheus_client'} & set(sys.modules))"
    probed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert probed.stdout.strip() == "set()"
