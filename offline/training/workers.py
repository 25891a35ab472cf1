"""Several folds, in turn or side by side: where one fails the others go on, and the end says which."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial

from models.errors import UserError
from offline.processes import WorkerDied, no_tools, run_jobs
from offline.training.events import FoldError, FoldFailed, Report, StepDone, TrainingEvent
from offline.training.run import Run

_STEP_EVENTS_S = 0.5

TrainFold = Callable[[Run, int, Report], object]
"""Trains one fold; a module-level function, because it goes to another process."""


def run_in_turn(run: Run, folds: Sequence[int], train: TrainFold, report: Report) -> None:
    """Call `train` for each of `folds` in this process; the others go on where one fails.

    Raises UserError that names those that failed, and the first one's reason, when all have ended.
    """
    failures = list[FoldFailed]()
    for fold in folds:
        failure = _try_fold(lambda: run, fold, train, report)
        if failure is not None:
            failures.append(failure)
            report(failure)
    _raise_failures(failures, folds)


def run_folds(
    load: Callable[[], Run], folds: Sequence[int], train: TrainFold, report: Report, workers: int
) -> None:
    """Call `train` for each of `folds`, up to `workers` at a time; the others go on where one fails.

    `load` opens the run and is called in another process, so it must be picklable. Raises UserError as `run_in_turn`.
    An interrupt, or the death of this process, ends the workers too.
    """
    failures = list[FoldFailed]()
    work = partial(_train_in_worker, load, train)
    with closing(run_jobs(folds, work, workers, make_tools=no_tools, on_event=report)) as finished:
        for end in finished:
            failure = end.result
            if isinstance(end.error, WorkerDied):
                reason = f"fold {end.job}: its process died ({end.error.exit_code})"
                failure = FoldFailed(end.job, reason, fault=True)
            elif end.error is not None:
                raise end.error
            if failure is not None:
                failures.append(failure)
                report(failure)
    _raise_failures(failures, folds)


def _raise_failures(failures: Sequence[FoldFailed], folds: Sequence[int]) -> None:
    if failures:
        names = ", ".join(str(fold) for fold in sorted(f.fold for f in failures))
        raise UserError(
            f"{len(failures)} of {len(folds)} folds failed ({names}), the first: {failures[0].reason}"
            + ("; continue with --resume" if failures[0].fault else "")
        )


def _try_fold(load: Callable[[], Run], fold: int, train: TrainFold, report: Report) -> FoldFailed | None:
    """Why training the fold failed, if it did."""
    try:
        train(load(), fold, report)
    except FoldError as e:
        return FoldFailed(fold, str(e))
    except UserError as e:
        return FoldFailed(fold, f"fold {fold}: {e}")
    except Exception as e:
        summary = " ".join(f"fold {fold}: {type(e).__name__}: {e}".split())
        return FoldFailed(fold, summary, fault=True, trace=traceback.format_exc())
    return None


def _train_in_worker(
    load: Callable[[], Run], train: TrainFold, _: None, fold: int, report: Report
) -> FoldFailed | None:
    last_step_s = 0.0

    def report_some(event: TrainingEvent) -> None:
        nonlocal last_step_s
        if isinstance(event, StepDone):
            # Steps are for the eye: a few a second will do.
            if time.monotonic() - last_step_s < _STEP_EVENTS_S:
                return
            last_step_s = time.monotonic()
        report(event)

    return _try_fold(load, fold, train, report_some)
