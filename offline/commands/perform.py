"""offline-perform: a corpus of generated people, or the demo recording."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from models.console import make_app, run, waiting
from models.errors import UserError
from offline.performer.plan import CorpusPlan, PlannedTrial

DEFAULTS: Final = CorpusPlan()

HELP: Final = """
Make a performed corpus: videos with sound of generated people whose valence and arousal are known, in the layout of
Aff-Wild2. The same seed gives the same people and performances; an interrupted run goes on where it stopped.

Examples:

  offline-perform corpus/                                  24 people, 20 minutes
  offline-perform corpus/ --people 48 --minutes 60         more
  offline-perform corpus/ --test-people 4                  and four people to test on
  offline-perform --demo stream/assets/demo.mp4            the recording that ships, and its trajectory beside it
"""


def command() -> None:
    """Console script `offline-perform`."""
    app = make_app(HELP)
    app.command(help=HELP)(_perform)
    run(app)


def _perform(
    folder: Annotated[Path | None, typer.Argument(help="Folder for the corpus.", show_default=False)] = None,
    people: Annotated[
        int, typer.Option(help="People for training and validation together; a sixth of them validate.")
    ] = DEFAULTS.people,
    minutes: Annotated[
        float, typer.Option(help="Length of their performances, all together.")
    ] = DEFAULTS.minutes,
    test_people: Annotated[
        int,
        typer.Option(help="Further people for testing, whose performances are as long as the others' each."),
    ] = DEFAULTS.test_people,
    seed: Annotated[
        int,
        typer.Option(
            help="Decides who the people are and what they feel; the demo bundle was trained on seeds 7 and 101."
        ),
    ] = DEFAULTS.seed,
    time_constant: Annotated[
        float,
        typer.Option(help="About how many seconds valence and arousal take to change; less is livelier."),
    ] = DEFAULTS.time_constant_s,
    workers: Annotated[
        int | None,
        typer.Option(help="Parallel processes; one for each core if not given.", show_default=False),
    ] = None,
    demo: Annotated[
        Path | None,
        typer.Option(help="Make the demo recording instead, as this .mp4 file.", show_default=False),
    ] = None,
) -> None:
    if (folder is None) == (demo is None):
        raise UserError("give a folder for the corpus, or --demo FILE.mp4 for the demo recording")
    if demo is not None:
        _perform_demo(demo)
    elif folder is not None:
        plan = CorpusPlan(
            people=people,
            minutes=minutes,
            seed=seed,
            test_people=test_people,
            time_constant_s=time_constant,
        )
        _perform_corpus(folder, plan, workers)


def _perform_demo(path: Path) -> None:
    if path.suffix != ".mp4":
        raise UserError(f"--demo {path}: the recording is an MP4, name it so (demo.mp4)")
    with waiting(f"performing {path}", tell_first=False):
        from offline.performer.demo import write_demo

        performance = write_demo(path)
    seconds = len(performance.labels) / performance.frame_rate
    typer.echo(
        f"{path}: {len(performance.labels)} frames, {seconds:g} s, {len(performance.utterances)} sentences"
    )
    for suffix, content in ((".txt", "the trajectory"), (".csv", "what is said")):
        typer.echo(f"{path.with_suffix(suffix)}: {content}")


def _perform_corpus(folder: Path, plan: CorpusPlan, workers: int | None) -> None:
    from rich.console import Console

    from models.machine import usable_processors
    from offline.commands.progress import trial_bar
    from offline.performer.corpus import perform_corpus, prepare_corpus

    left = prepare_corpus(plan, folder)
    console = Console(stderr=True)
    if len(left) < len(plan.trials):
        console.print(f"{len(plan.trials) - len(left)} of {len(plan.trials)} performances are there already")
    with trial_bar("performing", len(left), console) as advance:

        def report_done(trial: PlannedTrial) -> None:
            advance(f"performed {trial.name}")

        perform_corpus(plan, folder, left, usable_processors() if workers is None else workers, report_done)
    frames = sum(trial.frames for trial in plan.trials)
    typer.echo(
        f"{folder}: {len(plan.trials)} people, {frames} frames, {frames / plan.frame_rate / 60:.1f} minutes"
    )
