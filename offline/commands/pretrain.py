"""offline-pretrain: the pretrained encoders that the folds of a slim preset start from."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from pydantic import ValidationError

from models import console
from models.errors import UserError
from models.machine import usable_processors
from offline.commands.devices import choose_device
from offline.commands.model_options import field_option, options_error, split_names
from offline.training.options import PretrainOptions

if TYPE_CHECKING:
    from offline.pretraining.base import EncoderName
    from offline.pretraining.pretrain import PretrainEpoch

DEFAULTS: Final = PretrainOptions()

app = console.make_app(
    "Pretrain the face backbone, the audio encoder and the text encoder of a slim preset, on a store of people who "
    "appear in no fold. When it was cut short, the same command continues."
)


@app.command()
def pretrain(
    store: Annotated[
        Path,
        typer.Argument(help="A store made by offline-preprocess, of other people than the folds will see."),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="File for backbone and audio encoder, to be given to offline-train --trunk.",
        ),
    ] = Path("trunk.safetensors"),
    text_encoder: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the text encoder, to be given to offline-preprocess --text-encoder; beside the file if "
            "not given.",
            show_default=False,
        ),
    ] = None,
    parts: Annotated[
        str, typer.Option(help="Encoders to pretrain, separated by commas: visual, audio, language.")
    ] = "visual,audio,language",
    preset: Annotated[str, field_option(PretrainOptions, "preset")] = DEFAULTS.preset,
    epochs: Annotated[int, field_option(PretrainOptions, "epochs")] = DEFAULTS.epochs,
    audio_epochs: Annotated[int, field_option(PretrainOptions, "audio_epochs")] = DEFAULTS.audio_epochs,
    language_epochs: Annotated[
        int, field_option(PretrainOptions, "language_epochs")
    ] = DEFAULTS.language_epochs,
    learning_rate: Annotated[
        float, field_option(PretrainOptions, "learning_rate", "--learning-rate", "--lr")
    ] = DEFAULTS.learning_rate,
    weight_decay: Annotated[float, field_option(PretrainOptions, "weight_decay")] = DEFAULTS.weight_decay,
    every: Annotated[int, field_option(PretrainOptions, "every")] = DEFAULTS.every,
    pictures: Annotated[int, field_option(PretrainOptions, "pictures")] = DEFAULTS.pictures,
    patches: Annotated[int, field_option(PretrainOptions, "patches")] = DEFAULTS.patches,
    utterances: Annotated[int, field_option(PretrainOptions, "utterances")] = DEFAULTS.utterances,
    max_steps: Annotated[int | None, field_option(PretrainOptions, "max_steps")] = DEFAULTS.max_steps,
    seed: Annotated[int, field_option(PretrainOptions, "seed")] = DEFAULTS.seed,
    device: Annotated[str, field_option(PretrainOptions, "device")] = "auto",
    threads: Annotated[int | None, field_option(PretrainOptions, "threads")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Encoders to pretrain at the same time.")] = 1,
) -> None:
    """Pretrain the encoders, print what each reaches by itself, write a file and a text encoder's folder."""
    from offline.commands.progress import LOADING, learning

    with console.waiting(LOADING, tell_first=False):
        from offline.data.store import Store
        from offline.pretraining.pretrain import join_parts

    options = _pretrain_options(
        {
            "preset": preset,
            "epochs": epochs,
            "audio_epochs": audio_epochs,
            "language_epochs": language_epochs,
            "learning_rate": learning_rate,
            "weight_decay": weight_decay,
            "every": every,
            "pictures": pictures,
            "patches": patches,
            "utterances": utterances,
            "max_steps": max_steps,
            "seed": seed,
            "device": choose_device(device),
            "threads": threads or max(1, usable_processors() // workers),
        }
    )
    wanted = _encoder_names(parts)
    checkpoints = {part: out.with_name(f".{out.name}.{part}") for part in wanted}
    opened = Store.open(store)
    with learning(f"pretraining {', '.join(wanted)}"):
        if workers > 1:
            _pretrain_side_by_side(store, options, checkpoints, workers)
        else:
            for part, path in checkpoints.items():
                _pretrain_part(store, options, (part, path), _print_epoch)
    folder = text_encoder or out.with_name(f"{out.stem}-text")
    sha256 = join_parts(opened, options, checkpoints, out, folder)
    for path in checkpoints.values():
        path.unlink(missing_ok=True)
    print(f"{out}: {', '.join(wanted)} of the {preset} preset, {sha256[:12]}")
    if "language" in wanted:
        print(f"{folder}: the text encoder")


def command() -> None:
    """Console script `offline-pretrain`."""
    console.run(app)


def _pretrain_options(given: Mapping[str, object]) -> PretrainOptions:
    try:
        options = PretrainOptions.model_validate(given)
    except ValidationError as e:
        raise options_error(e) from e
    try:
        _ = options.network
    except ValueError as e:
        raise UserError(str(e)) from e
    return options


def _encoder_names(text: str) -> tuple[EncoderName, ...]:
    from offline.pretraining.base import ENCODERS

    named = set(split_names(text))
    unknown = sorted(named - set(ENCODERS))
    if unknown or not named:
        problem = f"there is no part '{unknown[0]}'" if unknown else "--parts names no part"
        raise UserError(f"{problem}: choose from {', '.join(ENCODERS)}")
    return tuple(part for part in ENCODERS if part in named)


def _pretrain_part(
    store: Path,
    options: PretrainOptions,
    part_and_checkpoint: tuple[EncoderName, Path],
    report: Callable[[PretrainEpoch], None],
) -> None:
    import torch

    from offline.data.store import Store
    from offline.pretraining.pretrain import pretrain_part

    part, checkpoint = part_and_checkpoint
    torch.set_num_threads(options.threads)
    pretrain_part(Store.open(store), part, options, checkpoint, report)


def _print_epoch(event: PretrainEpoch) -> None:
    cccs = ", ".join(f"{t} {value:.3f}" for t, value in event.ccc.items())
    print(
        f"{event.part}: epoch {event.epoch}/{event.epochs}, loss {event.loss:.3f}, CCC {cccs}"
        f"{' (best)' if event.best else ''}, {event.seconds:.1f} s",
        flush=True,
    )


def _pretrain_side_by_side(
    store: Path, options: PretrainOptions, checkpoints: Mapping[EncoderName, Path], workers: int
) -> None:
    """Each encoder in another process, `workers` at once. Raises UserError where one fails, when all have ended."""
    from offline.processes import WorkerDied, no_tools, run_jobs

    work = partial(_pretrain_in_worker, store, options)
    failed = False
    with closing(
        run_jobs(list(checkpoints.items()), work, workers, make_tools=no_tools, on_event=_print_epoch)
    ) as finished:
        for end in finished:
            if end.error is None:
                continue
            failed = True
            if isinstance(end.error, UserError | WorkerDied):
                console.tell(f"{end.job[0]}: {end.error}")
            else:
                traceback.print_exception(end.error)
    if failed:
        raise UserError("pretraining stopped early, see above; the same command goes on where it was")


def _pretrain_in_worker(
    store: Path,
    options: PretrainOptions,
    _: None,
    part_and_checkpoint: tuple[EncoderName, Path],
    report: Callable[[PretrainEpoch], None],
) -> None:
    _pretrain_part(store, options, part_and_checkpoint, report)
