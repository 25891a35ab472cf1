"""Jobs over processes: all of them end, whatever one of them does."""

from __future__ import annotations

import os
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from models.errors import UserError
from offline.processes import Finished, NoTools, WorkerDied, count_step, run_jobs


def tools() -> int:
    return 10


def no_tools() -> int:
    raise UserError("the model is damaged")


def work(folder: Path, ten: int, job: int) -> int:
    """Job 3 fails, job 5 kills its process; each leaves a mark for every time it ran."""
    count_step()
    with (folder / str(job)).open("a") as file:
        file.write(".")
    if job == 3:
        raise UserError("three")
    if job == 5:
        os._exit(1)
    return ten * job


def wait_long(folder: Path, _: int, job: int) -> None:
    (folder / str(job)).touch()
    for _ in range(1000):
        time.sleep(0.02)
        count_step()


def by_job(ended: list[Finished[int, int]]) -> dict[int, Finished[int, int]]:
    return {end.job: end for end in ended}


def test_a_job_that_fails_or_kills_its_process_costs_no_other(tmp_path: Path) -> None:
    steps: list[int] = []
    ended = list(run_jobs(range(8), partial(work, tmp_path), tools, 2, steps.append))
    found = by_job(ended)
    assert sorted(found) == list(range(8))
    assert len(ended) == 8
    assert [found[k].result for k in (0, 1, 2, 4, 6, 7)] == [0, 10, 20, 40, 60, 70]
    assert isinstance(found[3].error, UserError)
    assert isinstance(found[5].error, WorkerDied)
    assert (tmp_path / "5").read_text() == ".."
    assert all(len((tmp_path / str(k)).read_text()) == 1 for k in (0, 1, 2, 3))
    assert steps == sorted(steps)
    assert steps[-1] >= 8


def test_tools_that_cannot_be_made_are_said_and_not_tried_for_ever(tmp_path: Path) -> None:
    ended = list(run_jobs([1, 2], partial(work, tmp_path), no_tools, 1))
    assert [type(end.error) for end in ended] == [NoTools, NoTools]
    assert str(ended[0].error) == "the model is damaged"
    assert not list(tmp_path.iterdir())


def test_leaving_early_stops_the_running_jobs(tmp_path: Path) -> None:
    began = time.monotonic()

    def leave(steps: int) -> None:
        if steps:
            raise KeyboardInterrupt

    with (
        closing(run_jobs([1, 2, 3], partial(wait_long, tmp_path), tools, 1, leave)) as running,
        pytest.raises(KeyboardInterrupt),
    ):
        list(running)
    assert time.monotonic() - began < 15
    assert [p.name for p in tmp_path.iterdir()] == ["1"]
