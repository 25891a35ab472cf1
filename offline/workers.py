"""Several folds side by side, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import queue
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.context import SpawnProcess

from models.errors import UserError
from offline.display import Event, Note, StepDone
from offline.orphans import end_with_parent
from offline.runs import Run

_POLL_S = 0.2
_STEP_EVENTS_S = 0.5

Job = Callable[[Run, int, Callable[[Event], None]], object]
"""Trains one fold; a module-level function, because it goes to another process."""


@dataclass(frozen=True)
class _Failed:
    fold: int
    text: str
    fault: bool


def run_folds(
    load: Callable[[], Run], folds: Sequence[int], job: Job, report: Callable[[Event], None], workers: int
) -> None:
    """Run `job` for each of `folds`, up to `workers` at a time; the others go on where one fails.

    `load` opens the run and is called in each process, so it must be picklable. Raises UserError with the first
    failure when all have ended. An interrupt, or the death of this process, ends the workers too.
    """
    context = multiprocessing.get_context("spawn")
    events = context.Queue(maxsize=10_000)
    waiting, running, failures = list(folds), dict[int, SpawnProcess](), list[_Failed]()
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
                        failures.append(
                            _Failed(fold, f"fold {fold}: its process died ({process.exitcode})", True)
                        )
                        report(Note(failures[-1].text))
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.join()
        events.close()
        events.cancel_join_thread()
    if failures:
        raise UserError(
            f"{len(failures)} of {len(folds)} folds failed, the first: {failures[0].text}"
            + ("; continue with --resume" if failures[0].fault else "")
        )


def _pass_on(
    events: multiprocessing.queues.Queue[Event | _Failed],
    report: Callable[[Event], None],
    failures: list[_Failed],
) -> None:
    """Hand on what has come in; waits a moment for the first."""
    timeout = _POLL_S
    while True:
        try:
            event = events.get(timeout=timeout)
        except queue.Empty:
            return
        timeout = 0.01
        if isinstance(event, _Failed):
            failures.append(event)
            report(Note(event.text))
        else:
            report(event)


def _work(
    load: Callable[[], Run],
    fold: int,
    job: Job,
    events: multiprocessing.queues.Queue[Event | _Failed],
) -> None:
    # Ctrl-C reaches the whole group: the parent decides, and ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    last_step = 0.0

    def report(event: Event) -> None:
        nonlocal last_step
        if isinstance(event, StepDone):
            # Steps are for the eye: a few a second will do.
            if time.monotonic() - last_step < _STEP_EVENTS_S:
                return
            last_step = time.monotonic()
        events.put(event)

    try:
        job(load(), fold, report)
    except UserError as e:
        events.put(_Failed(fold, str(e), False))
    except Exception:
        events.put(_Failed(fold, f"fold {fold}: {traceback.format_exc()}", True))
