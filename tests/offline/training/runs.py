"""Runs of quick options on the tiny store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from offline.data.store import Store
from offline.training.options import TrainOptions
from offline.training.run import Run, RunFolder, prepare_run
from offline.training.schedule import ScheduleOptions

if TYPE_CHECKING:
    from pathlib import Path

    from offline.training.events import TrainingEvent


QUICK = ScheduleOptions(learning_rate=3e-3, warm_up=1, epochs=2)


def options(**changes: Any) -> TrainOptions:
    return TrainOptions(
        **{"preset": "compact", "schedule": QUICK, "window": 30, "hop": 20, "cache_trunk": 2, **changes}
    )


def begin(
    folder: Path, store: Path, trunk: Path | None, given: TrainOptions | None = None, *, resume: bool = False
) -> Run:
    run, _ = prepare_run(
        RunFolder(folder),
        Store.open(store),
        given or options(),
        trunk=trunk,
        split=None,
        parts=5,
        resume=resume,
    )
    return run


def nothing(event: TrainingEvent) -> None:
    pass
