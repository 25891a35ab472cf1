"""offline-pretrain: what the folds of a slim preset stand on."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models import console
from models.errors import UserError

if TYPE_CHECKING:
    from offline.learners import Part
    from offline.options import PretrainOptions
    from offline.pretrain import PretrainEpoch

app = console.make_app(
    "Pretrain a slim preset's face backbone and audio encoder on a store of people whom no fold will see. "
    "Cut short, the same command goes on where it was."
)


@app.command()
def pretrain(
    store: Annotated[Path, typer.Argument(help="A store of its own, made by offline-preprocess.")],
    out: Annotated[Path, typer.Option("--output", "-o", help="The file for offline-train --trunk.")] = Path(
        "trunk.safetensors"
    ),
    preset: Annotated[str, typer.Option(help="Whose backbone and encoder.")] = "compact",
    epochs: Annotated[int, typer.Option(help="Epochs of the backbone.")] = 10,
    audio_epochs: Annotated[int, typer.Option(help="Epochs of the audio encoder.")] = 20,
    learning_rate: Annotated[float, typer.Option("--learning-rate", "--lr")] = 2e-3,
    weight_decay: Annotated[float, typer.Option()] = 1e-4,
    every: Annotated[int, typer.Option(help="Take every so many frames.")] = 3,
    pictures: Annotated[int, typer.Option(help="Pictures in a batch.")] = 64,
    windows: Annotated[int, typer.Option(help="Windows of sound in a batch.")] = 2,
    window: Annotated[int, typer.Option(help="Taken frames in a window of sound.")] = 100,
    max_steps: Annotated[int | None, typer.Option(help="Stop each part after so many steps.")] = None,
    seed: Annotated[int, typer.Option()] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of each part.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="2: both parts side by side.")] = 1,
) -> None:
    """Train backbone and audio encoder, print what each reaches by itself, write one file."""
    from pydantic import ValidationError

    from offline.commands.train import choose_device, first_problem
    from offline.learners import PARTS
    from offline.options import PretrainOptions
    from offline.pretrain import join_parts
    from offline.store import Store

    try:
        options = PretrainOptions(
            preset=preset,
            epochs=epochs,
            audio_epochs=audio_epochs,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            every=every,
            pictures=pictures,
            windows=windows,
            window=window,
            max_steps=max_steps,
            seed=seed,
            device=choose_device(device),
            threads=threads or max(1, (os.cpu_count() or 1) // workers),
        )
        _ = options.network
    except ValidationError as e:
        raise UserError(first_problem(e)) from e
    except ValueError as e:
        raise UserError(str(e)) from e
    checkpoints = {part: out.with_name(f".{out.name}.{part}") for part in PARTS}
    jobs = [partial(_pretrain_part, store, part, options, path) for part, path in checkpoints.items()]
    opened = Store.open(store)
    if workers > 1:
        _side_by_side(jobs)
    else:
        for job in jobs:
            job()
    sha256 = join_parts(opened, options, checkpoints, out)
    for path in checkpoints.values():
        path.unlink(missing_ok=True)
    print(f"{out}: backbone and audio encoder of the {preset} preset, {sha256[:12]}")


def _pretrain_part(store: Path, part: Part, options: PretrainOptions, checkpoint: Path) -> None:
    import torch

    from offline.pretrain import pretrain_part
    from offline.store import Store

    torch.set_num_threads(options.threads)
    pretrain_part(Store.open(store), part, options, checkpoint, _print)


def _print(event: PretrainEpoch) -> None:
    cccs = ", ".join(f"{t} {value:.3f}" for t, value in event.ccc.items())
    print(
        f"{event.part}: epoch {event.epoch}/{event.epochs}, loss {event.loss:.3f}, CCC {cccs}"
        f"{' (best)' if event.best else ''}, {event.seconds:.1f} s",
        flush=True,
    )


def _side_by_side(jobs: Sequence[Callable[[], None]]) -> None:
    """Each job in a process of its own. Raises UserError where one fails, when all have ended."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_work, args=(job, os.getpid()), daemon=True) for job in jobs]
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.join()
    finally:
        for process in processes:
            if process.is_alive():
                process.terminate()
                process.join()
    if any(process.exitcode for process in processes):
        raise UserError("pretraining stopped early, see above; the same command goes on where it was")


def _work(job: Callable[[], Any], parent: int) -> None:
    from offline.workers import end_with

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    end_with(parent)
    try:
        job()
    except UserError as e:
        print(f"offline-pretrain: {e}", file=sys.stderr)
        sys.exit(console.USER_ERROR)


def command() -> None:
    """Console script."""
    console.run(app)
