"""offline-predict: a bundle's estimates over a store's trials or a recording, and how well they agree with labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from models.console import make_app, run, waiting
from models.errors import UserError
from models.spec import Modality
from offline.commands.devices import choose_device
from offline.commands.progress import LOADING, frame_bar

if TYPE_CHECKING:
    from models.bundle.load import Bundle
    from offline.data.store import Store, TrialRecord
    from offline.prediction.predict import TrialPredictions
    from offline.prediction.scorecard import Outcome
    from offline.training.options import Context
    from stream.build import LoadedParts

HELP: Final = """
Predict valence and arousal with a bundle, of a store's trials or of any recording, and score them where there are
labels. By default a trial is one causal pass, what the live engine settles on (--context stream); --context windows
is the report's way, for comparison with published numbers: windows of 300 frames every 200, overlaps averaged, each
trial's whole series centered.

Examples:

  offline-predict demo store/ --partition test
      scores on people that no fold trained on

  offline-predict bundle/ store/ --context both --out predictions/
      both contexts side by side; a CSV per trial and all scores as JSON

  offline-predict bundle/ store/ --partition test --submission va.txt
      a file in the challenge's form

  offline-predict bundle/ store/ --ablate all
      what each branch is worth: the scores with it masked

  offline-predict bundle/ talk.mp4 --out predictions/
      any recording
"""

TRIALS: Final = "Which trials of a store"
SCORING: Final = "How they are predicted and scored"
RECORDING: Final = "A recording"
OUTPUT: Final = "What is written"
COMPUTING: Final = "Where it is computed"

PartitionChoice = Literal["train", "validation", "test", "all"]
ContextChoice = Literal["stream", "windows", "both"]

app = make_app(HELP)


@dataclasses.dataclass(frozen=True)
class Request:
    """What was asked for, checked as far as it can be without loading anything."""

    bundle: str
    source: Path
    partition: PartitionChoice
    trials: tuple[str, ...]
    contexts: tuple[Context, ...]
    without: tuple[Modality, ...]
    own_fold: Path | None
    labels: Path | None
    out: Path | None
    submission: Path | None
    detector: Literal["auto", "haar", "yunet"]
    recogniser: str
    device: str
    threads: int | None


@app.command(help=HELP)
def predict(
    bundle: Annotated[str, typer.Argument(help="Fold models: a shipped name or a bundle's folder.")],
    source: Annotated[Path, typer.Argument(help="A store made by offline-preprocess, or a recording.")],
    partition: Annotated[
        PartitionChoice, typer.Option(help="All trials of this partition.", rich_help_panel=TRIALS)
    ] = "validation",
    trial: Annotated[
        list[str] | None, typer.Option(help="Only this trial; may be repeated.", rich_help_panel=TRIALS)
    ] = None,
    own_fold: Annotated[
        Path | None,
        typer.Option(
            help="A run's folds.json: score each fold on its own validation part, whatever --partition.",
            rich_help_panel=TRIALS,
        ),
    ] = None,
    context: Annotated[
        ContextChoice,
        typer.Option(help="What a frame's estimate may look back on.", rich_help_panel=SCORING),
    ] = "stream",
    ablate: Annotated[
        list[str] | None,
        typer.Option(
            help="Also score with a branch masked: visual, audio, language or all; may be repeated.",
            rich_help_panel=SCORING,
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Its labels, as Aff-Wild2 has them: valence,arousal per frame. A store has its own.",
            rich_help_panel=RECORDING,
        ),
    ] = None,
    detector: Annotated[
        Literal["auto", "haar", "yunet"],
        typer.Option(help="Face detector, as in stream-run.", rich_help_panel=RECORDING),
    ] = "auto",
    recogniser: Annotated[
        str, typer.Option(help="Speech recogniser, as in stream-run.", rich_help_panel=RECORDING)
    ] = "auto",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for a CSV per trial and metrics.json with all scores.", rich_help_panel=OUTPUT
        ),
    ] = None,
    submission: Annotated[
        Path | None, typer.Option(help="File in the challenge's submission form.", rich_help_panel=OUTPUT)
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace what --out or --submission would.", rich_help_panel=OUTPUT),
    ] = False,
    device: Annotated[
        str, typer.Option(help="For stores: auto, cpu, cuda or cuda:N.", rich_help_panel=COMPUTING)
    ] = "cpu",
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, help="Threads for the networks; one for each core if not given.", rich_help_panel=COMPUTING
        ),
    ] = None,
) -> None:
    """Predict, score and write what was asked for."""
    request = Request(
        bundle=bundle,
        source=source,
        partition=partition,
        trials=tuple(trial or ()),
        contexts=("stream", "windows") if context == "both" else (context,),
        without=_branches(ablate or []),
        own_fold=own_fold,
        labels=labels,
        out=out,
        submission=submission,
        detector=detector,
        recogniser=recogniser,
        device=device,
        threads=threads,
    )
    _check_outputs(request, overwrite)
    if not source.exists():
        raise UserError(f"there is no store or recording {source}: give a store's folder or a media file")
    request = dataclasses.replace(request, device=choose_device(device))
    if source.is_dir():
        _predict_store(request)
    else:
        _predict_recording(request)


def command() -> None:
    """Console script `offline-predict`."""
    run(app)


def _branches(names: Sequence[str]) -> tuple[Modality, ...]:
    known = [m.value for m in Modality]
    unknown = [name for name in names if name not in (*known, "all")]
    if unknown:
        raise UserError(f"--ablate is {', '.join(known)} or all, not '{unknown[0]}'")
    return tuple(m for m in Modality if "all" in names or m.value in names)


def _check_outputs(request: Request, overwrite: bool) -> None:
    if request.own_fold is not None and (request.without or request.submission is not None):
        raise UserError("--own-fold scores each fold on its own people: leave --ablate and --submission out")
    if request.submission is not None and len(request.contexts) > 1:
        raise UserError("a submission holds one prediction of each frame: give --context stream or windows")
    if overwrite:
        return
    if request.submission is not None and request.submission.exists():
        raise UserError(
            f"{request.submission} exists already: give another name, or --overwrite to replace it"
        )
    out = request.out
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists already: give another folder, or --overwrite to write into it")


def _predict_store(request: Request) -> None:
    with waiting(LOADING, tell_first=False):
        from models.bundle.load import load_bundle
        from offline.data.store import Store
        from offline.prediction.predict import check_store

    if request.labels is not None:
        raise UserError("--labels is for a recording: a store has its own")
    _use_threads(request.threads)
    with waiting(f"reading the store and loading the bundle {request.bundle}", tell_first=False):
        store = Store.open(request.source)
        bundle = load_bundle(request.bundle, missing_parts="tolerate")
        check_store(bundle, store)
    encoder = bundle.manifest.recipe.audio_encoder
    if encoder is not None and bundle.audio_encoder is None and store.recipe.audio_encoder is None:
        _print_note(
            f"the audio branch is off: {encoder.name} is not installed, and the store has no embeddings of it "
            f"(`models-pull {encoder.name}`)"
        )
    if request.own_fold is None:
        outcome = _score_partition(request, bundle, store)
    else:
        outcome = _score_own_folds(request, request.own_fold, bundle, store)
    _report(request, bundle, outcome)


def _score_partition(request: Request, bundle: Bundle, store: Store) -> Outcome:
    from offline.prediction.scorecard import score_predictions
    from offline.prediction.selection import choose_trials

    trials = choose_trials(store, request.trials, request.partition)
    if request.without and not any(t.facts.annotated for t in trials):
        raise UserError(
            "--ablate compares scores, and none of these trials has labels: choose others with --trial"
        )
    name = "chosen trials" if request.trials else request.partition
    return score_predictions(name, _predict_trials(request, bundle, trials))


def _score_own_folds(request: Request, path: Path, bundle: Bundle, store: Store) -> Outcome:
    from offline.data.folds import check_split, read_folds
    from offline.prediction.scorecard import Outcome, score_own_folds
    from offline.prediction.selection import fold_numbers

    split = read_folds(path)
    check_split(split, store.trials(), path)
    numbers = fold_numbers(bundle, split.folds, path)
    names = [name for k in numbers for name in split.fold(k).validation]
    trials = [store.trial(name) for name in names if not request.trials or name in request.trials]
    if not trials:
        raise UserError(
            f"{path} has no fold that validates on {request.trials[0]}",
            way_out="give another --trial, or none for all",
        )
    predictions = _predict_trials(request, bundle, trials).whole
    own = {
        c: score_own_folds(split, numbers, {p.trial: p for p in found}) for c, found in predictions.items()
    }
    return Outcome(predictions, own=tuple(own.items()))


def _predict_trials(request: Request, bundle: Bundle, trials: Sequence[TrialRecord]) -> TrialPredictions:
    from offline.prediction.files import check_targets
    from offline.prediction.predict import predict_trials

    if request.submission is not None:
        check_targets(bundle.ensemble.targets)
    with frame_bar("predicting", sum(t.frames for t in trials)) as advance:
        return predict_trials(
            bundle, trials, request.contexts, request.without, device=request.device, progress=advance
        )


def _predict_recording(request: Request) -> None:
    """Through the engine itself for plain estimates; from extracted features for whatever else is asked."""
    with waiting(LOADING, tell_first=False):
        from offline.prediction.replay import feature_mismatches, replay
        from offline.prediction.scorecard import Outcome
        from stream.build import load
        from stream.options import InputOptions

    if request.trials or request.own_fold is not None:
        raise UserError(
            f"--trial and --own-fold are for a store, and {request.source} is a file: leave them out"
        )
    if request.without and request.labels is None:
        raise UserError("--ablate compares scores, and this recording has no labels: give --labels")
    _use_threads(request.threads)
    choices = InputOptions(
        source=str(request.source),
        bundle=request.bundle,
        pace="fast",
        detector=request.detector,
        recogniser=request.recogniser,
    )
    with waiting(f"opening {request.source} and loading the bundle {request.bundle}", tell_first=False):
        parts = load(choices)
    try:
        for name, status in parts.input_status().items():
            if status.health != "ok":
                way_out = f" (`{status.way_out}`)" if status.way_out else ""
                _print_note(f"{name}: {status.detail}{way_out}")
        for note in feature_mismatches(parts):
            _print_note(note)
        if request.contexts == ("stream",) and request.labels is None:
            with frame_bar("predicting", parts.source.info.frames_hint) as advance:
                outcome = Outcome({"stream": [replay(parts, advance)]})
        else:
            outcome = _predict_extracted(request, parts)
    finally:
        parts.source.close()
    _report(request, parts.bundle, outcome)


def _predict_extracted(request: Request, parts: LoadedParts) -> Outcome:
    """A recording made into a trial of a store that is thrown away afterwards."""
    import tempfile

    from offline.prediction.replay import extract
    from offline.prediction.scorecard import score_predictions

    with tempfile.TemporaryDirectory(prefix="affectstream-") as temporary:
        with frame_bar("extracting features", parts.source.info.frames_hint) as advance:
            trial = extract(request.source, parts, Path(temporary), request.labels, advance)
        return score_predictions(trial.name, _predict_trials(request, parts.bundle, [trial]))


def _report(request: Request, bundle: Bundle, outcome: Outcome) -> None:
    """Files first, then tables: what was computed is on disk whatever happens to the terminal."""
    from rich.console import Console

    from offline.prediction.files import write_metrics, write_submission, write_trials
    from offline.prediction.tables import outcome_tables

    if request.out is not None:
        for predictions in outcome.predictions.values():
            write_trials(request.out, predictions)
        write_metrics(request.out, bundle, request.source.name, outcome)
    if request.submission is not None:
        write_submission(request.submission, outcome.predictions[request.contexts[0]])
    console = Console(highlight=False, markup=False, soft_wrap=False)
    for table in outcome_tables(outcome, bundle.ensemble.targets):
        console.print(table)
    for path in (request.out, request.submission):
        if path is not None:
            console.print(f"written: {path}")
    for note in _notes(request, bundle, outcome):
        console.print(note)


def _notes(request: Request, bundle: Bundle, outcome: Outcome) -> list[str]:
    """What a reader of the scores must know to take them for what they are."""
    manifest = bundle.manifest
    notes = [f"bundle '{manifest.name}': {manifest.note}"] if manifest.note else []
    if outcome.labelled and request.source.is_dir() and manifest.trained and not request.trials:
        trained_on = {"train": "all folds", "validation": "all folds but fold 0", "all": "the folds"}
        if request.partition in trained_on and bundle.ensemble.folds > 1:
            notes.append(
                f"if this is the store that the bundle comes from, {trained_on[request.partition]} trained on people "
                "of this partition: what the centered merge is worth shows on people that no fold has seen "
                "(--partition test, or another store)"
            )
    return notes


def _print_note(text: str) -> None:
    typer.echo(text, err=True)


def _use_threads(threads: int | None) -> None:
    from stream.session import use_threads

    use_threads(threads)
