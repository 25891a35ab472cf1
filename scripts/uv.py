"""uv, which resolves for systems that this machine is not; `pip install uv` brings it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from typing import Final

PYPROJECT: Final = Path(__file__).resolve().parent.parent / "pyproject.toml"


def find_uv() -> list[str]:
    """The command that starts uv: the environment variable UV, this Python's module, or what is on PATH."""
    if given := os.environ.get("UV"):
        return [given]
    if importlib.util.find_spec("uv") is not None:
        return [sys.executable, "-m", "uv"]
    if found := shutil.which("uv"):
        return [found]
    sys.exit("uv is missing: pip install uv, or name its program in the environment variable UV")
