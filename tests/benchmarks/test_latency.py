"""The benchmark of latency: what it says of its promise."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import typer

from benchmarks import latency
from benchmarks.latency import Run

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def no_broker() -> Iterator[int]:
    yield 0


@pytest.mark.parametrize(
    ("latencies_ms", "says", "status"),
    [
        ([40.0, 99.9, 60.0], "p99 under 100 ms in 3 of 3 runs: kept", 0),
        ([40.0, 100.0, 60.0], "p99 under 100 ms in 2 of 3 runs: **missed**", 1),
        ([400.0, 100.0, 600.0], "p99 under 100 ms in 0 of 3 runs: **missed**", 1),
    ],
)
def test_it_says_in_how_many_runs_the_promise_held_and_fails_where_one_missed_it(
    latencies_ms: list[float],
    says: str,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    left = iter(latencies_ms)

    async def measured(*args: object) -> Run:
        return Run([next(left)] * 10, {}, degraded=0, busy_cores=1.0, rate=30.0, first_s=1.0)

    monkeypatch.setattr(latency, "mosquitto", no_broker)
    monkeypatch.setattr(latency, "measure", measured)
    with pytest.raises(typer.Exit) as ended:
        latency.main(runs=3)
    assert ended.value.exit_code == status
    assert capsys.readouterr().out.splitlines()[-1] == says
