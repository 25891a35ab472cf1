"""Runs of quick options on the tiny store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from offline.data.store import Store
from offline.training.options import TrainOptions
from offline.training.run import Run, RunFolder, prepare_run
from offline.training.schedule import ScheduleOptions
from offline.training.train import train_fold

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


def train_run(folder: Path, store: Path, trunk: Path, **options: Any) -> Path:
    """Every fold of a split in three, one step each."""
    given = TrainOptions(
        preset="compact",
        schedule=ScheduleOptions(warm_up=0),
        window=20,
        hop=20,
        max_steps=1,
        cache_trunk=1,
        **options,
    )
    run, _ = prepare_run(
        RunFolder(folder), Store.open(store), given, trunk=trunk, split=None, parts=2, resume=False
    )
    for index in range(run.split.folds):
        train_fold(run, index, nothing, tensorboard=False)
    return folder


def nothing(event: TrainingEvent) -> None:
    pass
