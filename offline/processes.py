"""Jobs over processes, none of which can bring the others down: what fails is told and the rest goes on."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.sharedctypes import Synchronized
from typing import Any, Final, Generic, TypeVar

from models.errors import UserError
from offline.orphans import end_with_parent

Job = TypeVar("Job")
Result = TypeVar("Result")

_TICK_S: Final = 0.25


class WorkerDied(Exception):
    """The process died over this job: killed, out of memory, or crashed by what it read."""


class NoTools(UserError):
    """A process cannot make its tools; another would not either."""


class Stopped(BaseException):
    """The job was asked to end before it was done."""


@dataclass(frozen=True)
class Finished(Generic[Job, Result]):
    """A job with its result, or with what it raised."""

    job: Job
    result: Result | None = None
    error: Exception | None = None


class _Worker:
    """A worker process's own state."""

    tools: Any = None
    broken: str = ""
    steps: Synchronized[int] | None = None
    stopping: Synchronized[int] | None = None


def count_step() -> None:
    """Called by a job for each step of its work. Raises Stopped where the work is to end."""
    if _Worker.stopping is not None and _Worker.stopping.value:
        raise Stopped
    if _Worker.steps is not None:
        with _Worker.steps.get_lock():
            _Worker.steps.value += 1


def run_jobs(
    jobs: Sequence[Job],
    work: Callable[[Any, Job], Result],
    make_tools: Callable[[], Any],
    workers: int,
    on_tick: Callable[[int], None] = lambda _: None,
) -> Generator[Finished[Job, Result], None, None]:
    """Runs `work(tools, job)` for every job in `workers` spawned processes; yields each as it ends, in any order.

    Each process makes its tools once; a UserError of `make_tools` ends every job with NoTools. `on_tick` gets the
    steps counted so far, several times a second. Where a process dies, the jobs that were running are tried again
    one by one, and the one that kills its process again ends with WorkerDied. Closing the iterator stops the
    running jobs at their next step.
    """
    context = get_context("spawn")
    steps, stopping = context.Value("q", 0), context.Value("b", 0)
    setup = (make_tools, steps, stopping)
    waiting, suspects = list(jobs), list[Job]()
    while waiting or suspects:
        alone = not waiting
        batch = [suspects.pop(0)] if alone else waiting
        pool = ProcessPoolExecutor(
            min(workers, len(batch)), context, initializer=_start_worker, initargs=setup
        )
        running: dict[Future[Result], Job] = {}
        upcoming = list(reversed(batch))
        died: list[Job] = []
        try:
            while (upcoming and not died) or running:
                while upcoming and not died and len(running) < workers:
                    try:
                        running[pool.submit(_run, work, upcoming[-1])] = upcoming[-1]
                    except BrokenProcessPool:
                        break
                    upcoming.pop()
                done, _ = wait(running, timeout=_TICK_S, return_when=FIRST_COMPLETED)
                on_tick(steps.value)
                for future in done:
                    job = running.pop(future)
                    error = future.exception()
                    if isinstance(error, BrokenProcessPool):
                        died.append(job)
                    elif isinstance(error, Exception):
                        yield Finished(job, error=error)
                    elif error is not None:
                        raise error
                    else:
                        yield Finished(job, result=future.result())
        finally:
            stopping.value = int(bool(running))
            pool.shutdown(wait=True, cancel_futures=True)
        waiting = [] if alone else upcoming[::-1]
        if alone and died:
            yield Finished(died[0], error=WorkerDied("its process died: killed, out of memory, or crashed"))
        else:
            suspects += died


def _start_worker(
    make_tools: Callable[[], Any], steps: Synchronized[int], stopping: Synchronized[int]
) -> None:
    # Ctrl-C reaches the whole process group: the parent says when to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    _Worker.steps, _Worker.stopping = steps, stopping
    try:
        _Worker.tools = make_tools()
    except UserError as e:
        _Worker.broken = str(e)


def _run(work: Callable[[Any, Job], Result], job: Job) -> Result:
    if _Worker.broken:
        raise NoTools(_Worker.broken)
    return work(_Worker.tools, job)
