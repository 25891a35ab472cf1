"""What every benchmark shares: timing in turns, and tables that carry their spread.

Things to compare are timed in turns within one run, so that a busy machine is busy for all of them alike.
"""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass
from statistics import median, quantiles
from typing import TYPE_CHECKING

import torch

from models.accelerate.hardware import device_name, processor_name, versions
from models.machine import is_calm, load_average, usable_processors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

CAMERA_RATE = 30.0


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one thing: each round's."""

    ms: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return median(self.ms)

    @property
    def spread(self) -> tuple[float, float]:
        """The tenth and the ninetieth percentile."""
        if len(self.ms) < 2:
            return self.ms[0], self.ms[0]
        tenths = quantiles(self.ms, n=10, method="inclusive")
        return tenths[0], tenths[-1]

    def __str__(self) -> str:
        low, high = self.spread
        return f"{self.median:.4g} ({low:.4g} to {high:.4g})"


def time_in_turns(
    calls: Mapping[str, Callable[[], object]], *, rounds: int = 15, warm_ups: int = 2
) -> dict[str, Timing]:
    """Each call once a round, `rounds` times over, after warm-ups."""
    for call in calls.values():
        for _ in range(warm_ups):
            call()
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            found[name].append(1e3 * (time.perf_counter() - began))
    return {name: Timing(tuple(ms)) for name, ms in found.items()}


def in_turns(what: str) -> str:
    """The remark under a table that tells what was measured by `time_in_turns`, and can be compared."""
    return (
        f"{what} were timed in turns in one run; times are medians with the tenth and ninetieth percentile."
    )


def ratio(slow: Timing, fast: Timing) -> Timing:
    """How many times longer the first takes, round by round of one run (`Timing.ms` holds ratios)."""
    return Timing(tuple(a / b for a, b in zip(slow.ms, fast.ms, strict=True)))


@dataclass(frozen=True)
class Table:
    """A table with a title, and remarks under it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    remarks: Sequence[str] = ()

    def to_markdown(self) -> str:
        """The table in Markdown."""
        lines = [f"## {self.title}", "", "| " + " | ".join(self.columns) + " |"]
        lines.append("|" + "---|" * len(self.columns))
        lines += ["| " + " | ".join(row) + " |" for row in self.rows]
        if self.remarks:
            lines += ["", *self.remarks]
        return "\n".join(lines)


def describe_machine() -> str:
    """One paragraph: processors, how busy they are, and the versions in use."""
    busy = "" if is_calm() else " **The machine was busy with other work: take the ratios, not the times.**"
    found = versions("torch", "openvino", "nncf", "torch-tensorrt")
    card = f"; {device_name()}" if torch.cuda.is_available() else ""
    return (
        f"{processor_name()}, {usable_processors()} processors{card}; {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, "
        + ", ".join(f"{name} {version}" for name, version in found.items() if version != "none")
        + f"; {torch.get_num_threads()} threads; load average {load_average():.1f} at the start.{busy}"
    )


def four_cameras(what: str, rate: float, *, slack: float = 0.0) -> str:
    """Whether so many frames a second, give or take a share of them, keep the promise that `compact` serves four
    cameras' worth.
    """
    promised = 4 * CAMERA_RATE
    kept = "kept" if rate >= promised * (1 - slack) else "**missed**"
    return f"Promise: at least {promised:g} frames/s. {what}: {rate:.0f}, {kept}."
