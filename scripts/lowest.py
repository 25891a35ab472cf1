"""Tests the lower bounds of `pyproject.toml`: the oldest versions that it allows, installed, and tests run on them.

    python -m scripts.lowest build/lowest                       # needs uv (pip install uv)
    python -m scripts.lowest build/lowest tests/stream -x       # these tests

It makes a virtual environment in the folder, with PyTorch from the ordinary index (for Linux with CUDA: gigabytes),
plays the demo in it and runs pytest. The exit status is that of the first step that fails.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from scripts.uv import PYPROJECT, find_uv

TESTS: Final = ("tests/models", "tests/stream", "tests/offline", "-m", "not slow and not browser and not gpu")


def main() -> int:
    """Installs, plays the demo, tests."""
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit("usage: lowest.py FOLDER [what pytest is to be given]")
    folder, tests = Path(sys.argv[1]).absolute(), sys.argv[2:] or TESTS
    uv, bin_folder = find_uv(), folder / ("Scripts" if os.name == "nt" else "bin")
    python = str(bin_folder / "python")
    root = PYPROJECT.parent
    demo = ("--demo", "--pace", "fast", "--accelerator", "eager", "--view", "none", "--record", os.devnull)
    steps = (
        [*uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)],
        [
            *uv,
            "pip",
            "install",
            "--quiet",
            "--python",
            python,
            "--no-sources",
            "--resolution",
            "lowest-direct",
            "--editable",
            f"{root}[test]",
        ],
        [*uv, "pip", "freeze", "--python", python],
        [str(bin_folder / "stream-run"), *demo, "--overwrite"],
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
    )
    for step in steps:
        print("$", *step, flush=True)
        if status := subprocess.run(step, cwd=root, check=False).returncode:
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
