"""offline-train: one fold, or all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer
from pydantic import ValidationError

from models import console
from models.errors import UserError
from models.machine import usable_processors
from offline.commands.devices import choose_device
from offline.commands.model_options import field_option, join_names, options_error, split_names
from offline.data.folds import PARTS
from offline.training.options import TrainOptions
from offline.training.schedule import ScheduleOptions

if TYPE_CHECKING:
    from offline.training.events import Report
    from offline.training.run import Run

DEFAULTS: Final = TrainOptions()
SCHEDULE: Final = DEFAULTS.schedule

app = console.make_app(
    "Train fold models on a store of features. The defaults are those of the report. A run that was cut short goes "
    "on with --resume."
)


@dataclass(frozen=True)
class RunRequest:
    """What run to begin or continue: it goes to the worker processes, each of which opens the run."""

    store: Path
    folder: Path
    options: TrainOptions
    trunk: Path | None
    folds: Path | None
    parts: int

    def open(self, *, resume: bool) -> tuple[Run, list[str]]:
        """The run, and what the user should know about it. Raises UserError as `prepare_run`."""
        import torch

        from offline.data.store import Store
        from offline.training.run import RunFolder, prepare_run

        torch.set_num_threads(self.options.threads)
        return prepare_run(
            RunFolder(self.folder),
            Store.open(self.store),
            self.options,
            trunk=self.trunk,
            split=self.folds,
            parts=self.parts,
            resume=resume,
        )

    def open_again(self) -> Run:
        """The run, in a worker: its folder is there by then."""
        return self.open(resume=True)[0]


@app.command()
def train(
    store: Annotated[Path, typer.Argument(help="A store made by offline-preprocess.")],
    fold: Annotated[
        str, typer.Option(help="Number of the fold to train, 0 validating on the official partition; or all.")
    ] = "all",
    preset: Annotated[str, field_option(TrainOptions, "preset")] = DEFAULTS.preset,
    run: Annotated[
        Path | None,
        typer.Option(
            "--run", "-o", help="Folder of the run; runs/<preset> if not given.", show_default=False
        ),
    ] = None,
    trunk: Annotated[
        Path | None,
        typer.Option(
            help="Pretrained encoders that every fold starts from: the file that offline-pretrain wrote, or a "
            "face-recognition checkpoint.",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in that folder.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="Folds to train at the same time.")] = 1,
    folds: Annotated[
        Path | None,
        typer.Option(help="A folds.json to use; a new split is made if not given.", show_default=False),
    ] = None,
    parts: Annotated[
        int,
        typer.Option(min=1, help="Parts that the training partition is split into; there is one fold more."),
    ] = PARTS,
    modalities: Annotated[str, field_option(TrainOptions, "modalities")] = join_names(DEFAULTS.modalities),
    targets: Annotated[str, field_option(TrainOptions, "targets")] = join_names(DEFAULTS.targets),
    learning_rate: Annotated[
        float, field_option(ScheduleOptions, "learning_rate", "--learning-rate", "--lr")
    ] = SCHEDULE.learning_rate,
    least_learning_rate: Annotated[
        float, field_option(ScheduleOptions, "least_learning_rate")
    ] = SCHEDULE.least_learning_rate,
    warm_up: Annotated[int, field_option(ScheduleOptions, "warm_up")] = SCHEDULE.warm_up,
    patience: Annotated[int, field_option(ScheduleOptions, "patience")] = SCHEDULE.patience,
    factor: Annotated[float, field_option(ScheduleOptions, "factor")] = SCHEDULE.factor,
    early_stopping: Annotated[int, field_option(ScheduleOptions, "early_stopping")] = SCHEDULE.early_stopping,
    epochs: Annotated[int, field_option(ScheduleOptions, "epochs")] = SCHEDULE.epochs,
    release: Annotated[str, field_option(ScheduleOptions, "release")] = join_names(SCHEDULE.release),
    batch: Annotated[int, field_option(TrainOptions, "batch")] = DEFAULTS.batch,
    accumulate: Annotated[int, field_option(TrainOptions, "accumulate")] = DEFAULTS.accumulate,
    weight_decay: Annotated[float, field_option(TrainOptions, "weight_decay")] = DEFAULTS.weight_decay,
    window: Annotated[int, field_option(TrainOptions, "window")] = DEFAULTS.window,
    hop: Annotated[int, field_option(TrainOptions, "hop")] = DEFAULTS.hop,
    augment: Annotated[bool, field_option(TrainOptions, "augment")] = DEFAULTS.augment,
    loss: Annotated[str, field_option(TrainOptions, "loss")] = DEFAULTS.loss,
    mask_share: Annotated[float, field_option(TrainOptions, "mask_share")] = DEFAULTS.mask_share,
    context: Annotated[str, field_option(TrainOptions, "context")] = DEFAULTS.context,
    cache_trunk: Annotated[int, field_option(TrainOptions, "cache_trunk")] = DEFAULTS.cache_trunk,
    max_steps: Annotated[int | None, field_option(TrainOptions, "max_steps")] = DEFAULTS.max_steps,
    seed: Annotated[int, field_option(TrainOptions, "seed")] = DEFAULTS.seed,
    device: Annotated[str, field_option(TrainOptions, "device")] = "auto",
    threads: Annotated[int | None, field_option(TrainOptions, "threads")] = None,
    amp: Annotated[bool, field_option(TrainOptions, "amp", "--amp")] = DEFAULTS.amp,
    tensorboard: Annotated[
        bool, typer.Option(help="Write curves for TensorBoard, if it is installed.")
    ] = True,
) -> None:
    """Train one fold or all; at the end fold-K/result.json says what it reached."""
    folder = run if run is not None else Path("runs") / preset
    given = {
        "preset": preset,
        "modalities": split_names(modalities),
        "targets": split_names(targets),
        "schedule": {
            "learning_rate": learning_rate,
            "least_learning_rate": least_learning_rate,
            "warm_up": warm_up,
            "patience": patience,
            "factor": factor,
            "early_stopping": early_stopping,
            "epochs": epochs,
            "release": split_names(release),
        },
        "batch": batch,
        "accumulate": accumulate,
        "weight_decay": weight_decay,
        "window": window,
        "hop": hop,
        "augment": augment,
        "loss": loss,
        "mask_share": mask_share,
        "context": context,
        "cache_trunk": cache_trunk,
        "max_steps": max_steps,
        "seed": seed,
        "device": choose_device(device),
        "threads": threads or _recorded_threads(folder, resume) or max(1, usable_processors() // workers),
        "amp": amp,
    }
    request = RunRequest(store, folder, _train_options(given), trunk, folds, parts)
    _train_folds(request, _fold_index(fold), resume, workers, tensorboard)


def command() -> None:
    """Console script `offline-train`."""
    console.run(app)


def _train_folds(
    request: RunRequest, fold: int | Literal["all"], resume: bool, workers: int, tensorboard: bool
) -> None:
    from offline.commands.progress import training_progress
    from offline.training import tensorboard as tensorboard_log
    from offline.training.events import Note, result_text
    from offline.training.workers import run_folds, run_in_turn

    with console.waiting("reading the store and the run", tell_first=False):
        run, notes = request.open(resume=resume)
    indexes = list(range(run.split.folds)) if fold == "all" else [fold]
    for index in indexes:
        run.split.fold(index)
    if tensorboard and not tensorboard_log.installed():
        notes.append("TensorBoard is not installed, so no event files are written: pip install tensorboard")
    done = [k for k in indexes if run.folder.fold(k).finished]
    todo = [k for k in indexes if k not in done]
    train = partial(_train_fold, tensorboard=tensorboard)
    with training_progress() as report:
        for note in notes:
            report(Note(note))
        for k in done:
            report(Note(result_text(run.folder.fold(k).read_result())))
        if len(todo) > 1 and workers > 1:
            run_folds(request.open_again, todo, train, report, workers)
        elif len(todo) > 1:
            run_in_turn(run, todo, train, report)
        else:
            for k in todo:
                train(run, k, report)
    finished = sum(run.folder.fold(k).finished for k in range(run.split.folds))
    if finished == run.split.folds:
        run.folder.drop_cache()
    print(f"{run.folder.path}: {finished} of {run.split.folds} folds finished")


def _train_options(given: Mapping[str, object]) -> TrainOptions:
    try:
        return TrainOptions.model_validate(given)
    except ValidationError as e:
        raise options_error(e) from e


def _train_fold(run: Run, index: int, report: Report, *, tensorboard: bool) -> None:
    from offline.training.train import train_fold

    train_fold(run, index, report, tensorboard=tensorboard)


def _fold_index(text: str) -> int | Literal["all"]:
    if text == "all":
        return "all"
    try:
        return int(text)
    except ValueError:
        raise UserError(f"--fold is a number or all, not '{text}'") from None


def _recorded_threads(folder: Path, resume: bool) -> int | None:
    """A run goes on with the threads it began with, whatever this machine has: sums depend on them."""
    from offline.files import read_json

    record = folder / "run.json"
    if not resume or not record.is_file():
        return None
    threads = read_json(record, way_out="give another --run folder").get("options", {}).get("threads")
    return threads if isinstance(threads, int) else None
