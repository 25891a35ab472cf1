"""offline-bundle: the folds of a run into one bundle that every other command takes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from models.console import make_app, run, waiting
from models.errors import UserError
from offline.commands.progress import LOADING

if TYPE_CHECKING:
    from offline.bundling.bundle import BundlingOptions

HELP: Final = """
Make a bundle of a run's trained folds: one folder that stream-run --bundle and offline-predict take, with the
networks, the encoders that belong to them and how their features are made. It is loaded again and compared with the
folds before it is put in place, so what is there afterwards computes what was trained.

Examples:

  offline-bundle runs/paper -o bundle/
      six folds; VGGish and BERT stay installed parts

  offline-bundle runs/compact -o bundle/ --text-encoder text/
      with the small text encoder that the store was made with

  offline-bundle runs/valence runs/arousal -o bundle/
      networks of one target each, paired by fold
"""

FOLDS: Final = "What goes into it"
STORE_DATA: Final = "What a store adds"
OUTPUT: Final = "What is written"

app = make_app(HELP)


@app.command(help=HELP)
def bundle(
    runs: Annotated[
        list[Path], typer.Argument(help="A run's folder, or two whose networks have a target each.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The bundle's folder.", rich_help_panel=OUTPUT)],
    name: Annotated[
        str,
        typer.Option(
            help="What the bundle is called; its folder's name by default.",
            rich_help_panel=OUTPUT,
            show_default=False,
        ),
    ] = "",
    note: Annotated[
        str,
        typer.Option(
            help="Shown wherever the bundle is: what it is good for, and what not.",
            rich_help_panel=OUTPUT,
            show_default=False,
        ),
    ] = "",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the bundle that is there.", rich_help_panel=OUTPUT)
    ] = False,
    text_encoder: Annotated[
        str | None,
        typer.Option(
            help="Bundle this text encoder: a transformers folder, or bundle:NAME for another bundle's.",
            rich_help_panel=FOLDS,
        ),
    ] = None,
    trunk: Annotated[
        Path | None,
        typer.Option(
            help="The pretrained encoders that the folds stand on, where the run's folder has them no more.",
            rich_help_panel=FOLDS,
        ),
    ] = None,
    allow_missing: Annotated[
        bool,
        typer.Option(
            "--allow-missing", help="Leave out folds that are missing or unfinished.", rich_help_panel=FOLDS
        ),
    ] = False,
    probe_from: Annotated[
        Path | None,
        typer.Option(
            metavar="STORE",
            help="Put a few pictures and sounds of this store's training people into the bundle, for lower "
            "precisions to be calibrated and checked on. They leave with it: ask those people. Without it: noise.",
            rich_help_panel=STORE_DATA,
        ),
    ] = None,
    calibrate_from: Annotated[
        Path | None,
        typer.Option(
            metavar="STORE",
            help="Fit the published spread, as the error to expect, to this store's test trials, which no fold may "
            "have trained on. Without it: the spread between the folds.",
            rich_help_panel=STORE_DATA,
        ),
    ] = None,
) -> None:
    """Gather, write, check."""
    with waiting(LOADING, tell_first=False):
        from offline.bundling.bundle import BundlingOptions, check_target, make_bundle
        from offline.training.results import find_runs, open_run

    found = find_runs(runs)
    if len(found) > max(2, len(runs)) or (len(found) > 1 and len(runs) == 1):
        raise UserError(
            f"{runs[0]} holds several runs ({', '.join(p.name for p in found)}): give one of them"
        )
    options = BundlingOptions(
        name=name,
        note=note,
        trunk=trunk,
        text_encoder=None,
        probe_from=probe_from,
        calibrate_from=calibrate_from,
        allow_missing=allow_missing,
        overwrite=overwrite,
    )
    check_target(out, options)
    with waiting("reading the runs, writing the bundle, comparing it with its folds", tell_first=False):
        packed = make_bundle(
            [open_run(path) for path in found], out, _with_text_encoder(options, text_encoder)
        )
    cccs = [fold.validation_ccc or {} for fold in packed.manifest.folds]
    for number, ccc in zip(packed.folds, cccs, strict=True):
        scores = ", ".join(f"{target} {value:.3f}" for target, value in ccc.items())
        typer.echo(f"fold {number}: validation CCC {scores}")
    if packed.manifest.spread is not None:
        from offline.bundling.spread import describe_spread

        for line in describe_spread(packed.manifest.spread):
            typer.echo(f"error to expect with {line}")
    typer.echo(
        f"{out}: bundle '{packed.manifest.name}', {len(packed.folds)} folds, {packed.megabytes:.1f} MB, content "
        f"{packed.manifest.content_hash[:12]}; agrees with its folds within {packed.difference:.1e}"
    )


def command() -> None:
    """Console script `offline-bundle`."""
    run(app)


def _with_text_encoder(options: BundlingOptions, choice: str | None) -> BundlingOptions:
    if choice is None:
        return options
    if not choice.startswith("bundle:"):
        return dataclasses.replace(options, text_encoder=Path(choice).expanduser())
    from models.bundle.load import load_bundle

    source = load_bundle(choice.removeprefix("bundle:"), missing_parts="tolerate")
    if source.text_encoder_folder is None:
        raise UserError(f"{choice} has no text encoder that is here: give a transformers folder")
    return dataclasses.replace(options, text_encoder=source.text_encoder_folder)
