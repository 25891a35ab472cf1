"""Several folds, in turn or side by side: where one fails the others go on, and the end says which."""

from __future__ import annotations

import multiprocessing
import queue
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.context import SpawnProcess

from models.errors import UserError
from offline.orphans import end_with_parent
from offline.training.events import FoldFailed, StepDone, TrainingEvent
from offline.training.run import Run

_POLL_S = 0.2
_STEP_EVENTS_S = 0.5

Job = Callable[[Run, int, Callable[[TrainingEvent], None]], object]
"""Trains one fold; a module-level function, because it goes to another process."""


def run_in_turn(run: Run, folds: Sequence[int], job: Job, report: Callable[[TrainingEvent], None]) -> None:
    """Run `job` for each of `folds` in this process; the others go on where one fails.

    Raises UserError that names those that failed, and the first one's reason, when all have ended.
    """
    failures = list[FoldFailed]()
    for fold in folds:
        failed = _attempt(partial(job, run, fold, report), fold)
        if failed is not None:
            failures.append(failed)
            report(failed)
    _check(failures, folds)


def run_folds(
    load: Callable[[], Run],
    folds: Sequence[int],
    job: Job,
    report: Callable[[TrainingEvent], None],
    workers: int,
) -> None:
    """Run `job` for each of `folds`, up to `workers` at a time; the others go on where one fails.

    `load` opens the run and is called in each process, so it must be picklable. Raises UserError as `run_in_turn`.
    An interrupt, or the death of this process, ends the workers too.
    """
    context = multiprocessing.get_context("spawn")
    events = context.Queue(maxsize=10_000)
    waiting, running, failures = list(folds), dict[int, SpawnProcess](), list[FoldFailed]()
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                fold = waiting.pop(0)
                process = context.Process(target=_work, args=(load, fold, job, events), daemon=True)
                process.start()
                running[fold] = process
            _pass_on(events, report, failures)
            for fold, process in list(running.items()):
                if not process.is_alive():
                    process.join()
                    del running[fold]
                    _pass_on(events, report, failures)
                    if process.exitcode and not any(f.fold == fold for f in failures):
                        reason = f"fold {fold}: its process died ({process.exitcode})"
                        failures.append(FoldFailed(fold, reason, fault=True))
                        report(failures[-1])
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.join()
        events.close()
        events.cancel_join_thread()
    _check(failures, folds)


def _check(failures: Sequence[FoldFailed], folds: Sequence[int]) -> None:
    if failures:
        names = ", ".join(str(fold) for fold in sorted(f.fold for f in failures))
        raise UserError(
            f"{len(failures)} of {len(folds)} folds failed ({names}), the first: {failures[0].reason}"
            + ("; continue with --resume" if failures[0].fault else "")
        )


def _attempt(job: Callable[[], object], fold: int) -> FoldFailed | None:
    """Why the job failed, if it did."""
    begins = f"fold {fold}"
    try:
        job()
    except UserError as e:
        text = str(e)
        return FoldFailed(fold, text if text.startswith(begins) else f"{begins}: {text}")
    except Exception as e:
        summary = " ".join(f"{begins}: {type(e).__name__}: {e}".split())
        return FoldFailed(fold, summary, fault=True, trace=traceback.format_exc())
    return None


def _pass_on(
    events: multiprocessing.queues.Queue[TrainingEvent],
    report: Callable[[TrainingEvent], None],
    failures: list[FoldFailed],
) -> None:
    """Hand on what has come in; waits a moment for the first."""
    timeout = _POLL_S
    while True:
        try:
            event = events.get(timeout=timeout)
        except queue.Empty:
            return
        timeout = 0.01
        if isinstance(event, FoldFailed):
            failures.append(event)
        report(event)


def _work(
    load: Callable[[], Run],
    fold: int,
    job: Job,
    events: multiprocessing.queues.Queue[TrainingEvent],
) -> None:
    # Ctrl-C reaches the whole group: the parent decides, and ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    last_step = 0.0

    def report(event: TrainingEvent) -> None:
        nonlocal last_step
        if isinstance(event, StepDone):
            # Steps are for the eye: a few a second will do.
            if time.monotonic() - last_step < _STEP_EVENTS_S:
                return
            last_step = time.monotonic()
        events.put(event)

    failed = _attempt(lambda: job(load(), fold, report), fold)
    if failed is not None:
        events.put(failed)
