"""Tests the lower bounds of `pyproject.toml`: the oldest versions that it allows, installed, and tests run on them.

    python -m scripts.lowest build/lowest                       # needs uv (pip install uv)
    python -m scripts.lowest build/lowest tests/stream -x       # these tests

It makes a virtual environment in the folder, with PyTorch from the ordinary index (for Linux with CUDA: gigabytes),
holds what was installed to the bounds, plays the demo in it and runs pytest. The exit status is that of the first
step that fails; a bound at which nothing can be installed fails too, since what it promises was never run.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

from scripts.uv import PYPROJECT, find_uv

TESTS: Final = ("tests", "-m", "not slow and not browser and not gpu")
BOUND: Final = re.compile(r"([\w.-]+)(?:\[[\w, -]+\])?[^;]*?>=\s*([\d.]+)")


def main() -> int:
    """Installs, compares, plays the demo, tests."""
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit("usage: lowest.py FOLDER [what pytest is to be given]")
    folder, tests = Path(sys.argv[1]).absolute(), sys.argv[2:] or TESTS
    uv, bin_folder = find_uv(), folder / ("Scripts" if os.name == "nt" else "bin")
    python = str(bin_folder / "python")
    root = PYPROJECT.parent
    install = ["--no-sources", "--resolution", "lowest-direct", "--editable", f"{root}[test]"]
    # pip, which makes the wheel that tests install, is seeded.
    run(*uv, "venv", "--quiet", "--clear", "--seed", "--python", sys.executable, folder)
    run(*uv, "pip", "install", "--quiet", "--python", python, *install)
    frozen = run(*uv, "pip", "freeze", "--python", python, capture=True)
    print(frozen)
    if unreached := find_unreached(read_requirements(), frozen):
        print("no older version can be installed, raise the bound:", *unreached, sep="\n  ", file=sys.stderr)
        return 1
    demo = ("--demo", "--pace", "fast", "--accelerator", "eager", "--view", "none", "--overwrite")
    run(bin_folder / "stream-run", *demo, "--record", folder / "demo.jsonl")
    run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)
    return 0


def run(*command: str | Path, capture: bool = False) -> str:
    """One step in the checkout: what it printed, where that is captured. Exits with its status where it fails."""
    print("$", *command, flush=True)
    ran = subprocess.run(
        command, cwd=PYPROJECT.parent, stdout=subprocess.PIPE if capture else None, text=True, check=False
    )
    if ran.returncode:
        sys.exit(ran.returncode)
    return ran.stdout or ""


def read_requirements() -> list[str]:
    """What the package and its extras require, as `pyproject.toml` has it."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    extras: dict[str, list[str]] = project["optional-dependencies"]
    return [*project["dependencies"], *(line for lines in extras.values() for line in lines)]


def find_unreached(requirements: list[str], frozen: str) -> list[str]:
    """The requirements whose lower bound is below what was installed, each with that; `frozen` as `pip freeze` says.

    Three parts of a version count: what comes fourth numbers builds (`4.13.0.90`). What is not installed is left out.
    """
    installed = dict(re.findall(r"^([\w.-]+)==([\d.]+)", frozen, flags=re.MULTILINE))
    return sorted(
        {
            f"{requirement}: {found[1]} {version} is the oldest"
            for requirement in requirements
            if (found := BOUND.match(requirement)) and (version := installed.get(found[1].lower()))
            if release(found[2]) < release(version)
        }
    )


def release(version: str) -> tuple[int, ...]:
    """The first three numbers of a version, which may have fewer."""
    return tuple([*map(int, version.strip(".").split(".")), 0, 0][:3])


if __name__ == "__main__":
    sys.exit(main())
