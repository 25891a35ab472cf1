"""offline-pretrain: what the folds of a slim preset stand on."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models import console
from models.errors import UserError
from offline.commands.devices import choose_device

if TYPE_CHECKING:
    from offline.pretraining.base import EncoderName
    from offline.pretraining.pretrain import PretrainEpoch
    from offline.training.options import PretrainOptions

app = console.make_app(
    "Pretrain a slim preset's face backbone, audio encoder and text encoder on a store of people whom no fold will "
    "see. Cut short, the same command goes on where it was."
)


@app.command()
def pretrain(
    store: Annotated[Path, typer.Argument(help="A store of its own, made by offline-preprocess.")],
    out: Annotated[Path, typer.Option("--output", "-o", help="The file for offline-train --trunk.")] = Path(
        "trunk.safetensors"
    ),
    text_encoder: Annotated[
        Path | None,
        typer.Option(
            help="The folder for offline-preprocess --text-encoder; one beside the file if not given.",
            show_default=False,
        ),
    ] = None,
    parts: Annotated[
        str, typer.Option(help="Which of visual, audio and language to train.")
    ] = "visual,audio,language",
    preset: Annotated[str, typer.Option(help="Whose encoders.")] = "compact",
    epochs: Annotated[int, typer.Option(help="Epochs of the backbone.")] = 10,
    audio_epochs: Annotated[int, typer.Option(help="Epochs of the audio encoder.")] = 20,
    language_epochs: Annotated[int, typer.Option(help="Epochs of the text encoder.")] = 60,
    learning_rate: Annotated[float, typer.Option("--learning-rate", "--lr")] = 2e-3,
    weight_decay: Annotated[float, typer.Option()] = 1e-4,
    every: Annotated[int, typer.Option(help="Take every so many frames.")] = 3,
    pictures: Annotated[int, typer.Option(help="Pictures in a batch.")] = 64,
    patches: Annotated[int, typer.Option(help="Patches of sound in a batch.")] = 64,
    utterances: Annotated[int, typer.Option(help="Utterances in a batch.")] = 16,
    max_steps: Annotated[int | None, typer.Option(help="Stop each part after so many steps.")] = None,
    seed: Annotated[int, typer.Option()] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of each part.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="So many parts side by side.")] = 1,
) -> None:
    """Train the encoders, print what each reaches by itself, write a file and a text encoder's folder."""
    from pydantic import ValidationError

    from offline.commands.train import first_problem
    from offline.data.store import Store
    from offline.pretraining.pretrain import join_parts
    from offline.training.options import PretrainOptions

    try:
        options = PretrainOptions(
            preset=preset,
            epochs=epochs,
            audio_epochs=audio_epochs,
            language_epochs=language_epochs,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            every=every,
            pictures=pictures,
            patches=patches,
            utterances=utterances,
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
    wanted = _parts(parts)
    checkpoints = {part: out.with_name(f".{out.name}.{part}") for part in wanted}
    jobs = [partial(_pretrain_part, store, part, options, path) for part, path in checkpoints.items()]
    opened = Store.open(store)
    if workers > 1:
        _side_by_side(jobs, workers)
    else:
        for job in jobs:
            job()
    folder = text_encoder or out.with_name(f"{out.stem}-text")
    sha256 = join_parts(opened, options, checkpoints, out, folder)
    for path in checkpoints.values():
        path.unlink(missing_ok=True)
    print(f"{out}: {', '.join(wanted)} of the {preset} preset, {sha256[:12]}")
    if "language" in wanted:
        print(f"{folder}: the text encoder")


def _parts(text: str) -> tuple[EncoderName, ...]:
    from offline.pretraining.base import ENCODERS

    named = {name.strip() for name in text.split(",")}
    unknown = sorted(named - set(ENCODERS))
    if unknown:
        raise UserError(f"there is no part '{unknown[0]}': choose from {', '.join(ENCODERS)}")
    return tuple(part for part in ENCODERS if part in named)


def _pretrain_part(store: Path, part: EncoderName, options: PretrainOptions, checkpoint: Path) -> None:
    import torch

    from offline.data.store import Store
    from offline.pretraining.pretrain import pretrain_part

    torch.set_num_threads(options.threads)
    pretrain_part(Store.open(store), part, options, checkpoint, _print)


def _print(event: PretrainEpoch) -> None:
    cccs = ", ".join(f"{t} {value:.3f}" for t, value in event.ccc.items())
    print(
        f"{event.part}: epoch {event.epoch}/{event.epochs}, loss {event.loss:.3f}, CCC {cccs}"
        f"{' (best)' if event.best else ''}, {event.seconds:.1f} s",
        flush=True,
    )


def _side_by_side(jobs: Sequence[Callable[[], None]], workers: int) -> None:
    """Each job in a process of its own, `workers` at once. Raises UserError where one fails, when all have ended."""
    context = multiprocessing.get_context("spawn")
    waiting = [context.Process(target=_work, args=(job,), daemon=True) for job in jobs]
    processes, running = list(waiting), list[SpawnProcess]()
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                running.append(waiting.pop(0))
                running[-1].start()
            wait([process.sentinel for process in running])
            running = [process for process in running if process.is_alive()]
    finally:
        for process in running:
            process.terminate()
            process.join()
    if any(process.exitcode for process in processes):
        raise UserError("pretraining stopped early, see above; the same command goes on where it was")


def _work(job: Callable[[], Any]) -> None:
    from offline.orphans import end_with_parent

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    end_with_parent()
    try:
        job()
    except UserError as e:
        print(f"offline-pretrain: {e}", file=sys.stderr)
        sys.exit(console.USER_ERROR)


def command() -> None:
    """Console script."""
    console.run(app)
