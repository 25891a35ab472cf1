"""offline-report: what training came to, or what a session kept, as one HTML file and PNGs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from models.console import make_app, run, waiting
from models.errors import UserError
from offline.commands.progress import LOADING, frame_bar

if TYPE_CHECKING:
    from offline.data.store import Store
    from offline.reporting.report import PredictionGroup, RunMaterial
    from offline.training.results import TrainedRun

HELP: Final = """
Report on training runs as one HTML page with figures: learning curves, predicted against labelled, tables of scores
and options. Each fold is plotted on the part that it validated on, for which the runs' store is needed: it is looked
for beside the runs and in the current folder, and what needs it is left out where it is not found.

Examples:

  offline-report runs/
      every run in it, to runs/report/report.html

  offline-report runs/compact --store store/ --out report/
      one run, and the store it was trained on

  offline-report runs/compact --predictions predictions/
      with what offline-predict --out wrote of the bundle

  offline-report sessions/P07
      what stream-run --session kept: valence and arousal over time, presence, words, markers, the plane
"""

CONTENT: Final = "What is reported"
OUTPUT: Final = "What is written"
COMPUTING: Final = "Where it is computed"

app = make_app(HELP)


@app.command(help=HELP)
def report(
    runs: Annotated[
        list[Path], typer.Argument(help="Runs' folders, or folders that hold them; or sessions'.")
    ],
    store: Annotated[
        Path | None,
        typer.Option(
            help="The store that the runs were trained on, where it is elsewhere.", rich_help_panel=CONTENT
        ),
    ] = None,
    predictions: Annotated[
        list[Path] | None,
        typer.Option(help="A folder from offline-predict --out; may be repeated.", rich_help_panel=CONTENT),
    ] = None,
    trials: Annotated[
        int, typer.Option(min=1, help="Trials to plot of each fold, best to worst.", rich_help_panel=CONTENT)
    ] = 4,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Folder of the report; RUNS/report by default.", rich_help_panel=OUTPUT
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, help="Threads for the networks; one for each core if not given.", rich_help_panel=COMPUTING
        ),
    ] = None,
) -> None:
    """Read, draw, write."""
    if find_spec("matplotlib") is None:
        raise UserError("figures need matplotlib, which is not installed: pip install 'affectstream[train]'")
    with waiting(LOADING, tell_first=False):
        from stream.session_folder.facts import is_session

    folder = out or runs[0] / "report"
    if sessions := [path for path in runs if is_session(path)]:
        if len(sessions) < len(runs) or store is not None or predictions:
            raise UserError("a session is reported without runs, a store or predictions: give sessions only")
        _report_sessions(sessions, folder)
        return
    with waiting(LOADING, tell_first=False):
        from offline.data.store import Store
        from offline.reporting.report import distinct_names, make_report, write_report
        from offline.training.results import find_runs, open_run
        from stream.session import use_threads

    _check_place(folder)
    use_threads(threads)
    found = [open_run(path) for path in find_runs(runs)]
    given = None if store is None else Store.open(store)
    for path in predictions or ():
        if not path.is_dir():
            raise UserError(f"{path} is no folder: give one that offline-predict --out wrote")
    folders = list({os.path.realpath(path): path for path in predictions or []}.values())
    named = zip(folders, distinct_names(folders), strict=True)
    groups = [group for path, name in named for group in _read_predictions(path, name)]
    notes: list[str] = []
    names = distinct_names([trained.folder.path for trained in found])
    material = [_material(name, trained, given, notes) for name, trained in zip(names, found, strict=True)]
    with waiting("drawing", tell_first=False):
        made = make_report(material, groups, trials=trials, notes=notes)
        path = write_report(folder, made)
    for note in notes:
        typer.echo(note, err=True)
    typer.echo(f"written: {path}, and {len(made.figures)} figures beside it")


def command() -> None:
    """Console script `offline-report`."""
    run(app)


def _check_place(folder: Path) -> None:
    from offline.reporting.report import REPORT

    if folder.exists() and not (folder / REPORT).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} holds something that is not a report: give another folder with --out")


def _report_sessions(paths: Sequence[Path], folder: Path) -> None:
    """Reads sessions, mends those that were cut, and draws them."""
    from offline.reporting.report import distinct_names, write_report
    from offline.reporting.session_report import make_session_report
    from stream.extras import require_extra
    from stream.session_folder.read import open_session_folder

    require_extra("session", "pyarrow", "a session's folder")
    _check_place(folder)
    opened = [open_session_folder(path) for path in {path.resolve(): path for path in paths}.values()]
    names = distinct_names([session.path for session in opened])
    path = write_report(folder, make_session_report(opened, names))
    for name, session in zip(names, opened, strict=True):
        for note in session.notes:
            typer.echo(f"{name}: {note}", err=True)
    typer.echo(f"written: {path}")


def _material(name: str, trained: TrainedRun, given: Store | None, notes: list[str]) -> RunMaterial:
    """A run with its folds' predictions, where its store is at hand; else a note says what is missing."""
    from offline.reporting.report import PredictionGroup, RunMaterial
    from offline.reporting.revalidate import check_store, find_store, validation_predictions

    path = trained.folder.path.resolve()
    store = given or find_store(trained, [Path.cwd(), path.parent, path.parent.parent])
    if store is None:
        notes.append(
            f"run {name}: predicted against labelled is left out, since the store "
            f"'{trained.record.get('store')}' that it was trained on is not here: give --store"
        )
        return RunMaterial(name, trained)
    check_store(trained, store)
    folds = [fold for fold in trained.folds if fold.folder.best.is_file()]
    frames = sum(store.trial(name).frames for f in folds for name in trained.split.fold(f.number).validation)
    with frame_bar(f"predicting for {name}", frames) as advance:
        groups = {
            fold.number: PredictionGroup(
                title=f"Fold {fold.number} on the part that it validated on, clipped to [-1, 1]",
                name=f"{name}-fold-{fold.number}",
                predictions=tuple(validation_predictions(trained, fold, store, advance)),
            )
            for fold in folds
        }
    return RunMaterial(name, trained, groups)


def _read_predictions(folder: Path, name: str) -> Sequence[PredictionGroup]:
    """What `offline-predict --out` wrote, by context. Raises UserError where there is nothing of it."""
    from offline.prediction.files import read_trial
    from offline.reporting.report import PredictionGroup

    groups = []
    for context in ("stream", "windows"):
        found = tuple(read_trial(path) for path in sorted((folder / context).glob("*.csv")))
        if found:
            groups.append(PredictionGroup(f"{name}, context {context}", f"{name}-{context}", found))
    if not groups:
        raise UserError(f"{folder} holds no predictions: give a folder that offline-predict --out wrote")
    return groups
