"""The command lines of the offline floor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from models.console import make_app, run
from models.errors import UserError
from models.machine import usable_processors

if TYPE_CHECKING:
    from offline.performer.corpus import CorpusPlan

PERFORM_HELP: Final = """
Make a performed corpus: generated people whose valence and arousal are known, as videos with sound, in the layout of
Aff-Wild2. The same seed gives the same people and performances; an interrupted run goes on where it stopped.

Examples:

  offline-perform corpus/                                  24 people, 20 minutes
  offline-perform corpus/ --people 48 --minutes 60         more
  offline-perform corpus/ --test-people 4                  and four people to test on
  offline-perform --demo stream/assets/demo.mp4            the recording that ships, and its trajectory beside it
"""


def perform_command() -> None:
    """`offline-perform`."""
    app = make_app(PERFORM_HELP)
    app.command(help=PERFORM_HELP)(_perform)
    run(app)


def _perform(
    folder: Annotated[Path | None, typer.Argument(help="Where the corpus goes.", show_default=False)] = None,
    people: Annotated[int, typer.Option(help="People in training and validation (a sixth of them).")] = 24,
    minutes: Annotated[float, typer.Option(help="Length of all their performances together.")] = 20.0,
    test_people: Annotated[int, typer.Option(help="Further people, for testing, as long each.")] = 0,
    seed: Annotated[
        int,
        typer.Option(
            help="Which people and performances; 7 and 101 are those that the demo bundle was trained on."
        ),
    ] = 1,
    time_constant: Annotated[
        float, typer.Option(help="Seconds that a feeling lasts, about; the shorter, the more of them.")
    ] = 7.0,
    workers: Annotated[
        int | None,
        typer.Option(help="Parallel processes; one for each core if not given.", show_default=False),
    ] = None,
    demo: Annotated[
        Path | None, typer.Option(help="Make the demo recording here, as .mp4, instead.", show_default=False)
    ] = None,
) -> None:
    if (folder is None) == (demo is None):
        raise UserError("give a folder for the corpus, or --demo FILE.mp4 for the demo recording")
    if demo is not None:
        _perform_demo(demo)
    elif folder is not None:
        from offline.performer.corpus import CorpusPlan

        plan = CorpusPlan(
            people=people,
            minutes=minutes,
            seed=seed,
            test_people=test_people,
            time_constant_s=time_constant,
        )
        _perform_corpus(folder, plan, workers)


def _perform_demo(path: Path) -> None:
    from offline.performer.demo import write_demo

    if path.suffix != ".mp4":
        raise UserError(f"--demo {path}: the recording is an MP4, name it so (demo.mp4)")
    performance = write_demo(path)
    seconds = len(performance.labels) / performance.frame_rate
    typer.echo(
        f"{path}: {len(performance.labels)} frames, {seconds:g} s, {len(performance.utterances)} sentences"
    )


def _perform_corpus(folder: Path, plan: CorpusPlan, workers: int | None) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from offline.performer.corpus import PlannedTrial, perform_corpus, prepare_corpus

    left = prepare_corpus(plan, folder)
    console = Console(stderr=True)
    if len(left) < len(plan.trials):
        console.print(f"{len(plan.trials) - len(left)} of {len(plan.trials)} performances are there already")
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, disable=not left) as progress:
        task = progress.add_task("performing", total=len(left))

        def tell(trial: PlannedTrial) -> None:
            progress.update(task, advance=1, description=f"performed {trial.name}")

        perform_corpus(plan, folder, left, usable_processors() if workers is None else workers, tell)
    frames = sum(trial.frames for trial in plan.trials)
    typer.echo(
        f"{folder}: {len(plan.trials)} people, {frames} frames, {frames / plan.frame_rate / 60:.1f} minutes"
    )
