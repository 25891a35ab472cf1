"""offline-compose: trials with continuous labels, put together of real faces, voices and words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Final

import typer

from models.console import make_app, run, waiting
from models.errors import UserError
from models.machine import usable_processors
from offline.composer.plan import ComposePlan
from stream.options import parse_detector

DEFAULTS: Final = ComposePlan()

HELP: Final = """
Compose trials of real material into a store that offline-train takes: pictures that people voted on, sentences that
actors said in a mood, comments with named emotions, along feelings that are held, rise and turn. Six parts have no
picture, speaker or comment in common: five train, one validates. The same files and seed give the same trials; an
interrupted run goes on where it stopped.

Example:

  offline-compose store/ --faces ferplus-train.npz --voices emodb/ --texts goemotions/train.tsv \\
      --text-encoder people-text/ --test-faces ferplus-validation.npz --test-texts goemotions/dev.tsv --hold-out 09
"""


def command() -> None:
    """Console script `offline-compose`."""
    app = make_app(HELP)
    app.command(help=HELP)(_compose)
    run(app)


def _compose(
    store: Annotated[Path, typer.Argument(help="Folder for the store.")],
    faces: Annotated[Path, typer.Option(help="FER+ archive (.npz) to train on.")],
    voices: Annotated[Path, typer.Option(help="Folder of EmoDB's recordings.")],
    texts: Annotated[Path, typer.Option(help="GoEmotions' table (.tsv) to train on, labels.txt beside it.")],
    text_encoder: Annotated[Path, typer.Option(help="Folder of the text encoder that makes word vectors.")],
    test_faces: Annotated[
        Path | None, typer.Option(help="FER+ archive for test trials; none without.", show_default=False)
    ] = None,
    test_texts: Annotated[
        Path | None, typer.Option(help="GoEmotions' table for test trials.", show_default=False)
    ] = None,
    hold_out: Annotated[
        str, typer.Option(help="EmoDB speakers kept for the test trials, comma separated (03,10).")
    ] = "",
    minutes: Annotated[
        float, typer.Option(help="Length of all training and validation trials together.")
    ] = DEFAULTS.minutes,
    test_minutes: Annotated[
        float, typer.Option(help="Length of all test trials together.")
    ] = DEFAULTS.test_minutes,
    trial_seconds: Annotated[
        float, typer.Option(help="Length of each trial, at least 10.")
    ] = DEFAULTS.trial_s,
    seed: Annotated[int, typer.Option(help="Decides what is felt, shown and said.")] = DEFAULTS.seed,
    detector: Annotated[
        str, typer.Option(help="Which detector frames the pictures: auto, haar or yunet.")
    ] = "auto",
    workers: Annotated[
        int | None,
        typer.Option(help="Parallel processes; one for each core if not given.", show_default=False),
    ] = None,
) -> None:
    from rich.console import Console

    from offline.commands.progress import LOADING, frame_bar, trial_bar

    with waiting(LOADING, tell_first=False):
        from offline.composer.corpus import ComposeJob, compose_trials, prepare
        from offline.composer.material_files import MaterialFiles
        from offline.composer.plan import ComposedTrial

    if test_faces is not None and not (test_texts and hold_out):
        raise UserError(
            "test trials are composed of what no fold trains on: beside --test-faces give --test-texts, and "
            "--hold-out with the speakers to keep for them"
        )
    if test_faces is None and test_texts is not None:
        raise UserError("--test-texts is for test trials: give --test-faces too")
    if test_faces is not None and test_minutes <= 0:
        raise UserError("--test-faces needs --test-minutes above 0: give more, or leave --test-faces out")
    plan = ComposePlan(minutes, 0.0 if test_faces is None else test_minutes, trial_seconds, seed)
    speakers = tuple(sorted(name.strip() for name in hold_out.split(",") if name.strip()))
    files = MaterialFiles(faces, voices, texts, test_faces, test_texts, speakers)
    with waiting("reading the material and what is composed already", tell_first=False):
        job = ComposeJob(
            plan,
            files,
            store,
            parse_detector(detector),
            text_encoder,
            _text_width(text_encoder),
            files.content_hash(),
        )
        left = prepare(job)
    console = Console(stderr=True)
    if len(left) < len(plan.trials):
        console.print(f"{len(plan.trials) - len(left)} of {len(plan.trials)} trials are there already")
    if left:
        with frame_bar("reading the material and finding faces", None) as advance:
            job.load_material(lambda: advance(1))
    with trial_bar("composing", len(left), console) as show:

        def report_done(trial: ComposedTrial) -> None:
            show(f"composed {trial.name}")

        compose_trials(job, left, usable_processors() if workers is None else workers, report_done)
    typer.echo(
        f"{store}: {len(plan.trials)} trials of {plan.trial_s:g} s from {faces.name}, {voices.name}, {texts.name}"
    )


def _text_width(folder: Path) -> int:
    try:
        return int(json.loads((folder / "config.json").read_text(encoding="utf-8"))["hidden_size"])
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise UserError(
            f"{folder} is not a text encoder's folder: make one with offline-pretrain-words"
        ) from e
