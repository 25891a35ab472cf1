"""Prints for which systems and Pythons everything that the package needs can be had ready-made, as a table.

    python -m scripts.resolve                        # about two minutes; needs uv (pip install uv)
    python -m scripts.resolve --extra whisper --python 3.13 --platform windows

Nothing is installed: uv finds versions that agree, and wheels of them for each system. Packages that are published
as source alone may be built where they are plain Python (`BUILT`). Where there is no solution, the cell points to the
reason below the table. The exit status is 1 where a system that `EXPECTED_GAPS` does not name has no solution.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from scripts.uv import PYPROJECT, find_uv

PLATFORMS: Final = {
    "linux": ("Linux x86-64", "x86_64-manylinux_2_28"),
    "linux-arm64": ("Linux arm64", "aarch64-manylinux_2_28"),
    "macos-arm64": ("macOS arm64", "aarch64-apple-darwin"),
    "macos": ("macOS x86-64", "x86_64-apple-darwin"),
    "windows": ("Windows x86-64", "x86_64-pc-windows-msvc"),
}
PYTHONS: Final = ("3.11", "3.12", "3.13", "3.14")
MACOS: Final = "14.0"
"""The oldest macOS that PyTorch's wheels are for."""
BUILT: Final = ("srt",)
"""Published as source alone, one module of plain Python: pip builds it in a second."""
EXPECTED_GAPS: Final = frozenset({"macos"})
"""PyTorch has no wheel for Intel Macs since 2.2."""
SHOWN: Final = ("torch", "vosk")
"""Packages whose version a cell shows."""


@dataclass(frozen=True)
class Resolution:
    """What uv found for one system and one Python: a version of each package, or why there is none."""

    versions: dict[str, str]
    reason: str = ""


def resolve(
    uv: list[str], platform: str, python: str, *, extras: tuple[str, ...] = (), lowest: bool = False
) -> Resolution:
    """Resolves `pyproject.toml` for a key of `PLATFORMS` and a Python such as `3.12`, by wheels but for `BUILT`."""
    command = [
        *uv,
        "pip",
        "compile",
        "--quiet",
        "--no-header",
        "--no-annotate",
        "--no-sources",
        "--only-binary",
        ":all:",
    ]
    for name in BUILT:
        command += ["--no-binary", name]
    for extra in extras:
        command += ["--extra", extra]
    if lowest:
        command += ["--resolution", "lowest-direct"]
    command += ["--python-platform", PLATFORMS[platform][1], "--python-version", python, str(PYPROJECT)]
    environment = {**os.environ, "MACOSX_DEPLOYMENT_TARGET": MACOS}
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if ran.returncode:
        return Resolution({}, shorten_reason(ran.stderr))
    return Resolution(dict(re.findall(r"^([\w.-]+)==(\S+)", ran.stdout, flags=re.MULTILINE)))


def shorten_reason(said: str) -> str:
    """The explanation that uv gives of a failure, as one sentence."""
    text = " ".join(said.split())
    if tag := re.search(r"(\S+) has no wheels with a matching .+? tag \(e\.g\., `(\S+)`\)", text):
        return f"{tag[1]} has no wheel for {tag[2]}"
    if missing := re.search(r"all versions of (\S+) have no usable wheels", text):
        return f"{missing[1]} has no wheel"
    first = re.search(r"cause: (.+?)(?: And because|\. |$)", text)
    return first[1] if first else text or "uv said nothing"


def draw_table(found: dict[tuple[str, str], Resolution]) -> list[str]:
    """The table in Markdown, and below it each reason once, numbered."""
    pythons = list(dict.fromkeys(python for _, python in found))
    reasons = list(dict.fromkeys(cell.reason for cell in found.values() if cell.reason))
    lines = [f"| | {' | '.join(pythons)} |", "|---" * (len(pythons) + 1) + "|"]
    for platform in dict.fromkeys(platform for platform, _ in found):
        cells = [describe_cell(found[platform, python], reasons) for python in pythons]
        lines.append(f"| {PLATFORMS[platform][0]} | {' | '.join(cells)} |")
    return [*lines, *(f"\n({number}) {reason}" for number, reason in enumerate(reasons, 1))]


def describe_cell(cell: Resolution, reasons: list[str]) -> str:
    """A cell's text: the versions of `SHOWN`, or the number of its reason."""
    if cell.reason:
        return f"no ({reasons.index(cell.reason) + 1})"
    return ", ".join(f"{name} {cell.versions[name]}" for name in SHOWN if name in cell.versions) or "resolved"


def main() -> int:
    """Resolves what the command line names and prints the table."""
    parser = argparse.ArgumentParser(description="For which systems and Pythons the dependencies can be had.")
    parser.add_argument(
        "--platform", action="append", choices=PLATFORMS, help="may be repeated; all by default"
    )
    parser.add_argument("--python", action="append", choices=PYTHONS, help="may be repeated; all by default")
    parser.add_argument(
        "--extra", action="append", default=[], help="resolve this extra too; may be repeated"
    )
    parser.add_argument("--lowest", action="store_true", help="take the oldest versions that are allowed")
    given = parser.parse_args()
    uv = find_uv()
    found: dict[tuple[str, str], Resolution] = {}
    for platform in given.platform or PLATFORMS:
        for python in given.python or PYTHONS:
            cell = resolve(uv, platform, python, extras=tuple(given.extra), lowest=given.lowest)
            found[platform, python] = cell
            progress = cell.reason or f"{len(cell.versions)} packages"
            print(f"{PLATFORMS[platform][0]}, Python {python}: {progress}", file=sys.stderr, flush=True)
    print(*draw_table(found), f"\n{datetime.now(UTC):%Y-%m-%d}", sep="\n")
    return int(any(cell.reason and platform not in EXPECTED_GAPS for (platform, _), cell in found.items()))


if __name__ == "__main__":
    sys.exit(main())
