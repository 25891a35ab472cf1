"""offline-train: one fold, or all of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from models import console
from models.errors import UserError
from offline.commands.devices import choose_device

app = console.make_app(
    "Train fold models from a store: the report's way by default. A run that was cut short goes on with --resume."
)


@app.command()
def train(
    store: Annotated[Path, typer.Argument(help="A store made by offline-preprocess.")],
    fold: Annotated[str, typer.Option(help="0 (the official split) to 5, or all.")] = "all",
    preset: Annotated[str, typer.Option(help="paper or compact.")] = "paper",
    run: Annotated[Path | None, typer.Option("--run", "-o", help="The run's folder (runs/<preset>).")] = None,
    trunk: Annotated[
        Path | None,
        typer.Option(help="What folds stand on: offline-pretrain's file, or a face-recognition checkpoint."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in that folder.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="Folds to train side by side.")] = 1,
    folds: Annotated[Path | None, typer.Option(help="A folds.json to use instead of a fresh split.")] = None,
    parts: Annotated[int, typer.Option(min=1, help="Parts of the training partition.")] = 5,
    modalities: Annotated[str, typer.Option(help="Branches to train.")] = "visual,audio,language",
    targets: Annotated[
        str, typer.Option(help="valence,arousal in one network, or one of them.")
    ] = "valence,arousal",
    learning_rate: Annotated[float, typer.Option("--learning-rate", "--lr")] = 1e-5,
    least_learning_rate: Annotated[
        float, typer.Option("--least-learning-rate", help="Below it the next group is released.")
    ] = 1e-7,
    warm_up: Annotated[int, typer.Option(help="Epochs of linear warm-up.")] = 10,
    patience: Annotated[int, typer.Option(help="Epochs without improvement before the rate falls.")] = 5,
    factor: Annotated[float, typer.Option(help="What the rate is multiplied by then.")] = 0.1,
    early_stopping: Annotated[int, typer.Option(help="Epochs without a new best that end training.")] = 10,
    epochs: Annotated[int, typer.Option(help="Epochs at most.")] = 100,
    release: Annotated[
        str, typer.Option(help="Backbone groups to release in turn; empty for none.")
    ] = "layer4,layer3_tail",
    batch: Annotated[int, typer.Option(help="Windows in a batch.")] = 2,
    accumulate: Annotated[int, typer.Option(help="Batches in an optimiser's step.")] = 1,
    weight_decay: Annotated[float, typer.Option()] = 1e-3,
    window: Annotated[int, typer.Option(help="Frames in a window.")] = 300,
    hop: Annotated[int, typer.Option(help="Frames from window to window.")] = 200,
    augment: Annotated[bool, typer.Option(help="Random crop and mirror, one draw for a window.")] = True,
    context: Annotated[
        str, typer.Option(help="How validation sees a trial: windows (averaged) or stream (one pass).")
    ] = "windows",
    cache_trunk: Annotated[
        int,
        typer.Option(
            "--cache-trunk",
            help="Keep the frozen layers' maps under so many fixed crops (on disk); 0: exact, any crop.",
        ),
    ] = 0,
    max_steps: Annotated[int | None, typer.Option(help="Stop after so many optimiser steps.")] = None,
    seed: Annotated[int, typer.Option()] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads of a fold (the cores shared among workers).")
    ] = None,
    amp: Annotated[bool, typer.Option("--amp", help="bfloat16 where that is safe.")] = False,
    tensorboard: Annotated[bool, typer.Option(help="Curves for TensorBoard, if it is installed.")] = True,
) -> None:
    """Train one fold or all; at the end fold-K/result.json says what it reached."""
    folder = run if run is not None else Path("runs") / preset
    wanted = {
        "preset": preset,
        "modalities": _names(modalities),
        "targets": _names(targets),
        "schedule": {
            "learning_rate": learning_rate,
            "least_learning_rate": least_learning_rate,
            "warm_up": warm_up,
            "patience": patience,
            "factor": factor,
            "early_stopping": early_stopping,
            "epochs": epochs,
            "release": _names(release),
        },
        "batch": batch,
        "accumulate": accumulate,
        "weight_decay": weight_decay,
        "window": window,
        "hop": hop,
        "augment": augment,
        "context": context,
        "cache_trunk": cache_trunk,
        "max_steps": max_steps,
        "seed": seed,
        "device": choose_device(device),
        "threads": threads or _recorded_threads(folder, resume) or max(1, (os.cpu_count() or 1) // workers),
        "amp": amp,
    }
    load = partial(_open_run, store, folder, wanted, trunk, folds, parts)
    _train(load, fold, resume, workers, tensorboard)


def _train(load: Callable[..., Any], fold: str, resume: bool, workers: int, tensorboard: bool) -> None:
    from offline.files import read_json
    from offline.training import tensorboard as log
    from offline.training.events import Note, open_display, result_text
    from offline.training.workers import run_folds, run_in_turn

    ready, notes = load(resume=resume)
    indexes = list(range(ready.split.folds)) if fold == "all" else [_fold_index(fold)]
    for index in indexes:
        ready.split.fold(index)
    if tensorboard and not log.installed():
        notes.append("TensorBoard is not installed, so no event files are written: pip install tensorboard")
    done = [k for k in indexes if ready.folder.fold(k).finished]
    todo = [k for k in indexes if k not in done]
    job = partial(_train_one, tensorboard=tensorboard)
    with open_display() as display:
        for note in notes:
            display(Note(note))
        for k in done:
            display(Note(result_text(read_json(ready.folder.fold(k).result))))
        if len(todo) > 1 and workers > 1:
            run_folds(partial(_load_again, load), todo, job, display, workers)
        elif len(todo) > 1:
            run_in_turn(ready, todo, job, display)
        else:
            for k in todo:
                job(ready, k, display)
    if all(ready.folder.fold(k).finished for k in range(ready.split.folds)):
        ready.folder.drop_cache()


def _open_run(
    store: Path,
    folder: Path,
    wanted: dict[str, Any],
    trunk: Path | None,
    folds: Path | None,
    parts: int,
    *,
    resume: bool,
) -> Any:
    import torch

    from offline.data.store import Store
    from offline.training.options import TrainOptions
    from offline.training.run import RunFolder, prepare_run

    try:
        options = TrainOptions.model_validate(wanted)
    except ValidationError as e:
        raise UserError(first_problem(e)) from e
    torch.set_num_threads(options.threads)
    return prepare_run(
        RunFolder(folder), Store.open(store), options, trunk=trunk, split=folds, parts=parts, resume=resume
    )


def _load_again(load: Callable[..., Any]) -> Any:
    """The run, in a worker: its folder is there by then."""
    return load(resume=True)[0]


def _train_one(ready: Any, index: int, report: Callable[[Any], None], *, tensorboard: bool) -> object:
    from offline.training.train import train_fold

    return train_fold(ready, index, report, tensorboard=tensorboard)


def first_problem(error: ValidationError) -> str:
    """The first thing that is wrong with options, by the option's name."""
    first = error.errors(include_url=False, include_input=False)[0]
    name = next((str(part) for part in reversed(first["loc"]) if isinstance(part, str)), "")
    text = first["msg"].removeprefix("Value error, ")
    return f"--{name.replace('_', '-')}: {text}" if name else text


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _fold_index(text: str) -> int:
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
    threads = read_json(record).get("options", {}).get("threads")
    return threads if isinstance(threads, int) else None


def command() -> None:
    """Console script."""
    console.run(app)
