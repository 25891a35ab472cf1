"""The benchmark of cameras: what stood on which rung, and whether four cameras' worth was served."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks import live
from benchmarks.latency import Run
from benchmarks.live import rungs

if TYPE_CHECKING:
    from pathlib import Path


def a_run(rate: float, degraded: str | None = None) -> Run:
    status = {"accelerator": "eager", "degraded": degraded}
    return Run([50.0], status, degraded=0, busy_cores=0.5, rate=rate, first_s=1.0)


def test_the_rungs_of_several_engines_are_counted() -> None:
    assert rungs([a_run(30)] * 4) == "full"
    assert rungs([a_run(30, "visual-2")] * 4) == "visual-2"
    uneven = [a_run(30, "audio-3"), a_run(30), a_run(30, "visual-2"), a_run(30, "audio-3")]
    assert rungs(uneven) == "1 x full, 1 x visual-2, 2 x audio-3"


@pytest.mark.parametrize(
    ("each", "says"),
    [(30.0, "120, kept."), (29.9, "120, kept."), (29.6, "118, **missed**."), (10.0, "40, **missed**.")],
)
def test_four_cameras_are_measured_at_full_and_on_the_ladder_and_the_promise_is_of_full(
    each: float, says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def at_once(count: int, options: list[str], seconds: float) -> list[Run]:
        full = options[options.index("--budget") + 1] == "full"
        return [a_run(each if full else 30.0, None if full else "visual-2")] * count

    monkeypatch.setattr(live, "_at_once", at_once)
    table = live.cameras(tmp_path, tmp_path, quick=True)
    head = [(row[0], row[2], row[3]) for row in table.rows[::2]]
    assert head == [
        ("1", "full", "full"),
        ("2", "full", "full"),
        ("4", "full", "full"),
        ("4", "auto", "visual-2"),
    ]
    assert all(len(row) == len(table.columns) for row in table.rows)
    assert table.remarks[-1] == (
        f"Promise: at least 120 frames/s. In all, of four cameras with nothing spared, by eager: {says}"
    )
