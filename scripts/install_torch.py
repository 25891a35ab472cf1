"""Installs PyTorch alone into the Python that runs this, before anything asks for it: CPU builds by default.

    python scripts/install_torch.py                  # CPU builds on every system
    AFFECT_TORCH=cuda python scripts/install_torch.py

The environment variable AFFECT_TORCH says where from:

    cpu            (default) PyTorch's own CPU builds where the ordinary index has CUDA ones, which is on Linux
    cuda           what the ordinary index has for Linux: CUDA builds, with gigabytes of NVIDIA's libraries
    https://...    another index, for PyTorch alone
    a folder       wheels in it, and no index

Where PyTorch's CPU index does not answer within two seconds, what pip's own configuration offers is taken instead: a
wheel in one of its folders (`find-links`) before the ordinary index. It needs only the standard library, and asks no
other package than PyTorch of an index that it names itself.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import subprocess
import sys
import threading
import tomllib
import urllib.request
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

CPU_INDEX: Final = "https://download.pytorch.org/whl/cpu"
PROBE_TIMEOUT_S: Final = 2.0
LOCAL: Final = ("--no-index", "--retries", "0", "--timeout", "5")
"""pip's options for wheels that lie on this machine: in folders that are named, or that its configuration names."""
PYPROJECT: Final = Path(__file__).resolve().parent.parent / "pyproject.toml"


def read_requirement() -> str:
    """What `pyproject.toml` asks of PyTorch, as one requirement."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    found: str = next(line for line in project["dependencies"] if re.match(r"torch\b(?!-)", line))
    return found


def is_installed(requirement: str) -> bool:
    """Whether a PyTorch that is new enough for the requirement `torch>=X.Y` is there already."""
    try:
        installed = version("torch")
    except PackageNotFoundError:
        return False
    return _release(installed) >= _release(requirement)


def _release(text: str) -> list[int]:
    numbers = re.search(r"\d+(\.\d+)*", text)
    return [int(number) for number in numbers[0].split(".")] if numbers else []


def answers(index: str, timeout_s: float = PROBE_TIMEOUT_S) -> bool:
    """Whether an index lists PyTorch within `timeout_s`, its name looked up and all."""
    listed = threading.Event()

    def ask() -> None:
        with (
            contextlib.suppress(OSError, http.client.HTTPException),
            urllib.request.urlopen(f"{index}/torch/", timeout=timeout_s) as page,  # noqa: S310 - https
        ):
            if b"torch-" in page.read(65536):
                listed.set()
        ended.set()

    # Looking up a name knows no time limit of its own: the thread is left behind where it hangs.
    ended = threading.Event()
    threading.Thread(target=ask, daemon=True).start()
    ended.wait(timeout_s)
    return listed.is_set()


def pip_install(requirement: str, *options: str, quiet: bool = False) -> bool:
    """Has pip install PyTorch alone; whether it did. `quiet`: nothing is said where it cannot."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    output = subprocess.DEVNULL if quiet else None
    ran = subprocess.run([*command, *options, requirement], stdout=output, stderr=output, check=False)
    return ran.returncode == 0


def install_cpu_builds(requirement: str) -> bool:
    """PyTorch's own CPU builds, else what pip's configuration offers; whether either could be had."""
    if sys.platform == "linux":
        if answers(CPU_INDEX):
            if pip_install(requirement, "--index-url", CPU_INDEX):
                return True
            say(f"pip could not install PyTorch from {CPU_INDEX}: trying what its own configuration offers")
        if pip_install(requirement, *LOCAL, quiet=True):
            return True
        say(
            f"{CPU_INDEX} does not answer: PyTorch comes from the ordinary index, which has CUDA builds for Linux "
            "(gigabytes); AFFECT_TORCH=FOLDER or AFFECT_TORCH=URL names a folder of wheels or another index"
        )
    return pip_install(requirement)


def install(source: str) -> bool:
    """Installs PyTorch from `source`, one of AFFECT_TORCH's values; whether it is there now."""
    requirement = read_requirement()
    if is_installed(requirement):
        return True
    if source in ("", "cpu"):
        return install_cpu_builds(requirement)
    if source == "cuda":
        return pip_install(requirement)
    if "://" in source:
        return pip_install(requirement, "--index-url", source)
    folder = Path(source).expanduser()
    if not folder.is_dir():
        say(
            f"AFFECT_TORCH is '{source}', no folder here: give cpu, cuda, an index's URL or a folder of wheels"
        )
        return False
    return pip_install(requirement, *LOCAL, "--find-links", str(folder))


def say(line: str) -> None:
    """One line to the user."""
    print(f"install_torch: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    wanted = os.environ.get("AFFECT_TORCH", "cpu").strip()
    if not install(wanted):
        say(f"PyTorch could not be installed (AFFECT_TORCH={wanted})")
        sys.exit(1)
