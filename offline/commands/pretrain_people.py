"""offline-pretrain-people: what the folds of a preset for real people stand on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from pydantic import ValidationError

from models.console import make_app, run, waiting
from models.errors import UserError
from offline.commands.model_options import field_option, options_error
from offline.people_pretraining.options import FaceOptions
from stream.options import DetectorChoice, parse_detector

if TYPE_CHECKING:
    from offline.people_pretraining.pretrain_faces import FaceEpoch

FACES: Final = FaceOptions()

HELP: Final = """
Pretrain the face backbone of a preset on FER+, faces from the web that ten people labelled each. Cut short, the same
command goes on where it was; what it keeps until then lies beside the output. The same files and options give the
same weights on one machine.

Example:

  offline-pretrain-people --faces ferplus-train.npz --validation-faces ferplus-validation.npz -o trunk.safetensors
"""


def command() -> None:
    """Console script `offline-pretrain-people`."""
    app = make_app(HELP)
    app.command(help=HELP)(_pretrain)
    run(app)


def _pretrain(
    faces: Annotated[Path, typer.Option(help="FER+ archive (.npz) to learn from.")],
    validation_faces: Annotated[Path, typer.Option(help="FER+ archive to choose the best epoch by.")],
    out: Annotated[Path, typer.Option("--output", "-o", help="The file for offline-train --trunk.")] = Path(
        "trunk.safetensors"
    ),
    detector: Annotated[
        str, typer.Option(help="Which detector frames the pictures: auto, haar or yunet.")
    ] = "auto",
    preset: Annotated[str, field_option(FaceOptions, "preset")] = FACES.preset,
    epochs: Annotated[int, field_option(FaceOptions, "epochs")] = FACES.epochs,
    batch: Annotated[int, field_option(FaceOptions, "batch")] = FACES.batch,
    learning_rate: Annotated[
        float, field_option(FaceOptions, "learning_rate", "--learning-rate", "--lr")
    ] = FACES.learning_rate,
    weight_decay: Annotated[float, field_option(FaceOptions, "weight_decay")] = FACES.weight_decay,
    balance: Annotated[float, field_option(FaceOptions, "balance")] = FACES.balance,
    level_weight: Annotated[float, field_option(FaceOptions, "level_weight")] = FACES.level_weight,
    open_share: Annotated[float, field_option(FaceOptions, "open_share")] = FACES.open_share,
    swap_share: Annotated[float, field_option(FaceOptions, "swap_share")] = FACES.swap_share,
    seed: Annotated[int, field_option(FaceOptions, "seed")] = FACES.seed,
    threads: Annotated[int, field_option(FaceOptions, "threads")] = FACES.threads,
) -> None:
    try:
        options = FaceOptions(
            preset=preset,
            epochs=epochs,
            batch=batch,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            balance=balance,
            level_weight=level_weight,
            open_share=open_share,
            swap_share=swap_share,
            seed=seed,
            threads=threads,
        )
        _ = options.network
    except ValidationError as e:
        raise options_error(e) from e
    except ValueError as e:
        raise UserError(str(e)) from e
    pretrain_faces_into(out, faces, validation_faces, parse_detector(detector), options)


def pretrain_faces_into(
    out: Path, faces: Path, validation_faces: Path, detector: DetectorChoice, options: FaceOptions
) -> None:
    """Train the backbone, print what it reaches after each epoch, and write `out`."""
    from offline.commands.progress import LOADING, frame_bar, learning

    with waiting(LOADING, tell_first=False):
        import torch

        from offline.people_pretraining.pretrain_faces import (
            FaceFiles,
            crop_spec,
            pretrain_faces,
            read_material,
            write_trunk,
        )

    torch.set_num_threads(options.threads)
    crop_spec(options)
    checkpoint, observed = (out.with_name(f".{out.name}.{what}") for what in ("faces", "observed"))
    with frame_bar("finding faces", None) as advance:
        material = read_material(FaceFiles(faces, validation_faces, detector), observed, lambda: advance(1))
    print(
        f"faces: {len(material.training)} pictures to learn from, {len(material.validation)} to choose by, "
        f"{material.identity['near_duplicates_left_out']} near-duplicates of these left out",
        flush=True,
    )
    with learning("pretraining on faces"):
        best = pretrain_faces(material, options, checkpoint, _print_epoch)
    sha256 = write_trunk(material, options, checkpoint, out)
    checkpoint.unlink(missing_ok=True)
    shutil.rmtree(observed, ignore_errors=True)
    for name, voted in best.voted.items():
        means = ", ".join(
            f"{mean:+.2f} (voted {vote:+.2f})" for mean, vote in zip(best.estimated[name], voted, strict=True)
        )
        print(f"faces: {name}: valence, arousal {means}")
    print(f"{out}: the {options.preset} preset's face backbone, {sha256[:12]}")


def _print_epoch(event: FaceEpoch) -> None:
    cccs = ", ".join(f"{target} {value:.4f}" for target, value in event.scores.ccc.items())
    print(
        f"faces: epoch {event.epoch}/{event.epochs}, loss {event.loss:.3f}, CCC {cccs}, expressions told "
        f"{event.scores.correct:.1%}, error of their means {event.scores.level_error:.3f}"
        f"{' (best)' if event.best else ''}, {event.seconds:.0f} s",
        flush=True,
    )
