"""Clock, disk and versions: what the machine itself brings along."""

from __future__ import annotations

import platform
import shutil
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from models.accelerate.cache import default_cache_folder
from models.machine import usable_processors
from models.parts.registry import models_folder
from stream.doctor.findings import Finding
from stream.mqtt.outbox import outbox_folder
from stream.status import package_version

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

STEP_S: Final = 0.05
"""By how much the wall clock may move against the steady one during an examination."""

LEAST_FREE_MB: Final = 100.0
"""An hour's outbox, and what an accelerator builds for a small bundle."""

NEEDED: Final = ("torch", "numpy", "av", "opencv-python-headless", "aiomqtt", "transformers", "safetensors")
OPTIONAL: Final[Mapping[str, str]] = {
    "vosk": "recognises words",
    "amqtt": "is the embedded broker",
    "openvino": "",
    "faster-whisper": "",
}
"""What a run can do without, and what for; no word on those that are extras."""


@dataclass(frozen=True)
class ClockReading:
    """The wall clock (seconds since the epoch) and the steady one, read together."""

    wall_s: float
    steady_s: float

    @classmethod
    def now(cls) -> ClockReading:
        """Both, now."""
        return cls(time.time(), time.monotonic())


def judge_clock(begin: ClockReading, end: ClockReading, *, newest_file_s: float) -> Finding:
    """The clock, read at the beginning and at the end of the examination.

    `newest_file_s` is when the software was put here: a clock before that is wrong.
    """
    resolution_ms = 1e3 * time.get_clock_info("monotonic").resolution
    moved_s = (end.wall_s - begin.wall_s) - (end.steady_s - begin.steady_s)
    measures = {"moved_ms": 1e3 * moved_s, "resolution_ms": resolution_ms}
    mend = "let the system keep it by network time (NTP)"
    if end.wall_s < newest_file_s - 86_400:
        says = "it is set to a day before this software was installed: times in messages will be wrong"
        return Finding("clock", "warning", says, mend, measures)
    if abs(moved_s) > STEP_S:
        says = f"it was set by {1e3 * moved_s:+.0f} ms during this examination: so will times in messages"
        return Finding("clock", "warning", says, mend, measures)
    shown = time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(end.wall_s))
    return Finding("clock", "ok", f"{shown}, steady to {max(resolution_ms, 0.001):.3g} ms", "", measures)


def newest_file_s() -> float:
    """When the newest of this software's own files was written, in seconds since the epoch."""
    here = Path(__file__).parent
    return max((path.stat().st_mtime for path in here.glob("*.py")), default=0.0)


def used_folders() -> dict[str, Path]:
    """The folders that a run or `models-pull` writes to, by what for."""
    return {
        "parts": models_folder(),
        "accelerated networks": default_cache_folder(),
        "outbox": outbox_folder(),
    }


def examine_disk(folders: Mapping[str, Path], least_free_mb: float = LEAST_FREE_MB) -> Finding:
    """Whether there is room, and leave to write, where each folder is or will be."""
    free_mb: dict[str, float] = {}
    troubles: list[str] = []
    mend: list[str] = []
    for name, folder in folders.items():
        place = next((p for p in (folder, *folder.parents) if p.is_dir()), Path("/"))
        try:
            with tempfile.TemporaryFile(dir=place):
                pass
            free_mb[name] = shutil.disk_usage(place).free / 1e6
        except OSError as error:
            troubles.append(f"{folder} ({name}) cannot be written to: {error.strerror or error}")
            mend.append(_another_place(name, place))
            continue
        if free_mb[name] < least_free_mb:
            troubles.append(f"{free_mb[name]:.0f} MB free for {name} in {place}")
            mend.append(f"free {least_free_mb:.0f} MB there")
    measures = {f"free_mb_{name.replace(' ', '_')}": mb for name, mb in free_mb.items()}
    if troubles:
        return Finding("disk", "warning", "; ".join(troubles), "; ".join(dict.fromkeys(mend)), measures)
    least = min(free_mb.values(), default=0.0)
    return Finding(
        "disk", "ok", f"{least / 1000:.1f} GB free where parts, caches and the outbox go", "", measures
    )


def _another_place(name: str, place: Path) -> str:
    variables = {"parts": "AFFECT_MODELS", "accelerated networks": "AFFECT_CACHE", "outbox": "XDG_STATE_HOME"}
    return f"name a folder of yours in {variables[name]}, or get leave to write to {place}"


def installed_versions(names: Sequence[str]) -> dict[str, str | None]:
    """The versions of installed distributions, None for those that are not there."""
    found: dict[str, str | None] = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def judge_versions(found: Mapping[str, str | None]) -> Finding:
    """What is installed of `NEEDED` and `OPTIONAL`, as a finding."""
    system = f"{platform.system()} {platform.machine()}, {usable_processors()} processors"
    here = [f"affectstream {package_version()}", f"Python {platform.python_version()}"]
    here += [f"{name} {number}" for name, number in found.items() if number is not None]
    says = f"{', '.join(here)}; {system}"
    lacking = [name for name in NEEDED if found.get(name) is None]
    unused = [name for name, what_for in OPTIONAL.items() if what_for and found.get(name) is None]
    if lacking:
        return Finding("versions", "failed", f"{says}; not installed: {', '.join(lacking)}", _pip(lacking))
    if unused:
        missing = ", ".join(f"{name}, which {OPTIONAL[name]}" for name in unused)
        return Finding("versions", "warning", f"{says}; not installed: {missing}", _pip(unused))
    return Finding("versions", "ok", says)


def _pip(names: Sequence[str]) -> str:
    return f"pip install {' '.join(names)}"
