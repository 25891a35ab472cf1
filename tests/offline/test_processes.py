"""Jobs over processes: all of them end, whatever one of them does."""

from __future__ import annotations

import os
import time
from contextlib import closing
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING

import pytest

from models.errors import UserError
from offline.processes import Finished, ToolsFailed, WorkerDied, no_tools, run_jobs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def tools() -> int:
    return 10


def broken_tools() -> int:
    raise UserError("the model is damaged")


def work(folder: Path, ten: int, job: int, report: Callable[[int], None]) -> int:
    """Job 3 fails, job 5 kills its process; each leaves a mark for every time it ran."""
    report(1)
    with (folder / str(job)).open("a") as file:
        file.write(".")
    if job == 3:
        raise UserError("three")
    if job == 5:
        os._exit(1)
    return ten * job


def wait_long(folder: Path, _: int, job: int, report: Callable[[int], None]) -> None:
    (folder / str(job)).touch()
    try:
        report(1)
        time.sleep(60)
    finally:
        (folder / f"{job} cleaned up").touch()


class Refused(UserError):
    """Cannot be unpickled: its constructor takes something else than what it tells."""

    def __init__(self, job: int, reason: str) -> None:
        super().__init__(f"{job}: {reason}")


def refuse(_: None, job: int, report: Callable[[int], None]) -> None:
    raise Refused(job, "too long")


def divide(_: None, job: int, report: Callable[[int], None]) -> float:
    return 1 / job


def by_job(ended: list[Finished[int, int]]) -> dict[int, Finished[int, int]]:
    return {end.job: end for end in ended}


def test_a_job_that_fails_or_kills_its_process_costs_no_other(tmp_path: Path) -> None:
    events: list[int] = []
    ended = list(
        run_jobs(range(8), partial(work, tmp_path), 2, make_tools=tools, on_event=events.append, retry=True)
    )
    found = by_job(ended)
    assert sorted(found) == list(range(8))
    assert len(ended) == 8
    assert [found[k].result for k in (0, 1, 2, 4, 6, 7)] == [0, 10, 20, 40, 60, 70]
    assert isinstance(found[3].error, UserError)
    assert isinstance(found[5].error, WorkerDied)
    assert found[5].error.exit_code == 1
    assert (tmp_path / "5").read_text() == ".."
    assert all(len((tmp_path / str(k)).read_text()) == 1 for k in (0, 1, 2, 3))
    steps = list(accumulate(events))
    assert steps == sorted(steps)
    assert steps[-1] >= 8


def test_without_a_retry_a_job_that_kills_its_process_runs_once(tmp_path: Path) -> None:
    (end,) = run_jobs([5], partial(work, tmp_path), 2, make_tools=tools)
    assert isinstance(end.error, WorkerDied)
    assert (tmp_path / "5").read_text() == "."


def test_tools_that_cannot_be_made_are_said_and_not_tried_for_ever(tmp_path: Path) -> None:
    ended = list(run_jobs([1, 2], partial(work, tmp_path), 1, make_tools=broken_tools))
    assert [type(end.error) for end in ended] == [ToolsFailed, ToolsFailed]
    assert str(ended[0].error) == "the model is damaged"
    assert not list(tmp_path.iterdir())


def test_a_fault_brings_its_traceback_along() -> None:
    found = {end.job: end for end in run_jobs([0, 2], divide, 1, make_tools=no_tools)}
    assert found[2].result == 0.5
    assert isinstance(found[0].error, ZeroDivisionError)
    assert "in divide" in found[0].error.__notes__[0]


def test_an_error_that_cannot_be_sent_is_told_all_the_same() -> None:
    ended = list(run_jobs([1, 2], refuse, 1, make_tools=no_tools))
    assert [str(end.error) for end in ended] == ["1: too long", "2: too long"]
    assert all(isinstance(end.error, UserError) for end in ended)


def test_leaving_early_stops_the_running_jobs(tmp_path: Path) -> None:
    began = time.monotonic()

    def leave(steps: int) -> None:
        raise KeyboardInterrupt

    with (
        closing(
            run_jobs([1, 2, 3], partial(wait_long, tmp_path), 1, make_tools=tools, on_event=leave)
        ) as running,
        pytest.raises(KeyboardInterrupt),
    ):
        list(running)
    assert time.monotonic() - began < 15
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1", "1 cleaned up"]
