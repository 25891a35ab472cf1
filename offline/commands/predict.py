"""offline-predict: a bundle's estimates over a store's trials or a recording, and how well they agree with labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from models.console import make_app, run
from models.errors import UserError
from models.spec import Modality
from offline.commands.devices import choose_device
from offline.commands.progress import frame_bar

if TYPE_CHECKING:
    from models.bundle.load import Bundle
    from offline.data.store import Store, TrialRecord
    from offline.prediction.predict import TrialPredictions
    from offline.prediction.scorecard import Outcome
    from offline.training.options import Context
    from stream.build import LoadedParts

HELP: Final = """
Predict valence and arousal with a bundle: of a store's trials, or of any recording.

In the context stream (the default) a trial is one causal pass with running
centering: what the live engine settles on. The context windows is the report's:
300 frames every 200, overlaps averaged, each trial's whole series centered.

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
    partition: Annotated[PartitionChoice, typer.Option(help="Which of the store's trials.")] = "validation",
    trial: Annotated[list[str] | None, typer.Option(help="Only this trial; may be repeated.")] = None,
    context: Annotated[
        ContextChoice, typer.Option(help="What a frame's estimate may look back on.")
    ] = "stream",
    ablate: Annotated[
        list[str] | None,
        typer.Option(
            help="Also score with a branch masked: visual, audio, language or all; may be repeated."
        ),
    ] = None,
    own_fold: Annotated[
        Path | None,
        typer.Option(
            help="A run's folds.json: score each fold on its own validation part, whatever --partition."
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="Labels of a recording, as Aff-Wild2 has them: valence,arousal per frame."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for a CSV per trial and metrics.json with all scores.")
    ] = None,
    submission: Annotated[Path | None, typer.Option(help="File in the challenge's submission form.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what --out or --submission would.")
    ] = False,
    detector: Annotated[
        Literal["auto", "haar", "yunet"], typer.Option(help="Recordings: face detector, as in stream-run.")
    ] = "auto",
    recogniser: Annotated[
        str, typer.Option(help="Recordings: speech recogniser, as in stream-run.")
    ] = "auto",
    device: Annotated[str, typer.Option(help="For stores: auto, cpu, cuda or cuda:N.")] = "cpu",
    threads: Annotated[int | None, typer.Option(min=1, help="Threads for the networks.")] = None,
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
    from models.bundle.load import load_bundle
    from offline.data.store import Store
    from offline.prediction.predict import check_store

    if request.labels is not None:
        raise UserError("--labels is for a recording: a store has its own")
    _use_threads(request.threads)
    store = Store.open(request.source)
    bundle = load_bundle(request.bundle, missing_parts="tolerate")
    check_store(bundle, store)
    encoder = bundle.manifest.recipe.audio_encoder
    if encoder is not None and bundle.audio_encoder is None and store.recipe.audio_encoder is None:
        _tell(
            f"the audio branch is off: {encoder.name} is not installed, and the store has no embeddings of it "
            f"(`models-pull {encoder.name}`)"
        )
    if request.own_fold is None:
        outcome = _score_partition(request, bundle, store)
    else:
        outcome = _score_own_folds(request, request.own_fold, bundle, store)
    _finish(request, bundle, outcome)


def _score_partition(request: Request, bundle: Bundle, store: Store) -> Outcome:
    from offline.prediction.scorecard import score_predictions

    trials = _choose(request, store)
    if request.without and not any(t.facts.annotated for t in trials):
        raise UserError("--ablate compares scores, and none of these trials has labels")
    name = "chosen trials" if request.trials else request.partition
    return score_predictions(name, _predict_trials(request, bundle, trials))


def _score_own_folds(request: Request, path: Path, bundle: Bundle, store: Store) -> Outcome:
    from offline.data.folds import check_split, read_folds
    from offline.prediction.scorecard import Outcome, score_own_folds

    split = read_folds(path)
    check_split(split, store.trials(), path)
    numbers = _fold_numbers(bundle, split.folds, path)
    names = [name for k in numbers for name in split.fold(k).validation]
    trials = [store.trial(name) for name in names if not request.trials or name in request.trials]
    if not trials:
        raise UserError(f"{path} has no fold that validates on {request.trials[0]}")
    predictions = _predict_trials(request, bundle, trials).whole
    own = {
        c: score_own_folds(split, numbers, {p.trial: p for p in found}) for c, found in predictions.items()
    }
    return Outcome(predictions, own=tuple(own.items()))


def _choose(request: Request, store: Store) -> list[TrialRecord]:
    """The trials asked for, by name or by partition. Raises UserError where there are none."""
    if request.trials:
        return [store.trial(name) for name in dict.fromkeys(request.trials)]
    found = store.trials() if request.partition == "all" else store.trials(request.partition)
    if not found:
        there = ", ".join(dict.fromkeys(t.partition for t in store.trials())) or "none at all"
        raise UserError(f"{store.folder} has no trials in the {request.partition} partition: it has {there}")
    return list(found)


def _fold_numbers(bundle: Bundle, folds: int, path: Path) -> tuple[int, ...]:
    """The split's number of each of the bundle's folds: all in order, unless the bundle says otherwise."""
    said = bundle.manifest.provenance.get("folds", "").split()
    numbers = tuple(int(n) for n in said) if all(n.isdigit() for n in said) and said else tuple(range(folds))
    if len(numbers) != bundle.ensemble.folds or any(n >= folds for n in numbers):
        raise UserError(
            f"{path} has {folds} folds, but the bundle '{bundle.manifest.name}' has {bundle.ensemble.folds} "
            "others: give the folds.json of the run that it was made from"
        )
    return numbers


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
    from offline.prediction.scorecard import Outcome
    from stream.build import load
    from stream.options import InputOptions

    if request.trials or request.own_fold is not None:
        raise UserError(f"--trial and --own-fold are for a store, and {request.source} is a file")
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
    parts = load(choices)
    try:
        for name, status in parts.input_status().items():
            if status.health != "ok":
                way_out = f" (`{status.way_out}`)" if status.way_out else ""
                _tell(f"{name}: {status.detail}{way_out}")
        for note in mismatches(parts):
            _tell(note)
        if request.contexts == ("stream",) and request.labels is None:
            from offline.prediction.replay import replay

            with frame_bar("predicting", parts.source.info.frames_hint) as advance:
                outcome = Outcome({"stream": [replay(parts, advance)]})
        else:
            outcome = _predict_extracted(request, parts)
    finally:
        parts.source.close()
    _finish(request, parts.bundle, outcome)


def mismatches(parts: LoadedParts) -> list[str]:
    """Where a recording's features are made by other parts than those that the bundle was trained on."""
    from offline.data.recipe import DISTRIBUTED
    from stream.description import is_detector
    from stream.sources.file_clock import same_rate

    recipe = parts.bundle.manifest.recipe
    # Crops about a box are alike whichever detector finds the face.
    used = {"detector": parts.detector.name} if recipe.crop.framing == "landmarks" else {}
    if parts.new_recogniser is not None:
        used["recogniser"] = parts.recogniser.name
    wanted = {role: recipe.parts[role].name for role in used if role in recipe.parts}
    notes = []
    for role, name in wanted.items():
        if name != used[role]:
            way_out = "no recording brings them" if name == DISTRIBUTED else f"give --{role} {name}"
            notes.append(
                f"the {role} is {used[role]}, but the bundle was trained on features of {name}: {way_out}"
            )
    if wanted.get("detector") == parts.detector.name and not is_detector(
        parts.detector, recipe.parts["detector"]
    ):
        notes.append(
            f"the bundle was trained with another version of the detector {parts.detector.name}, whose crops differ"
        )
    frame_rate = parts.source.info.frame_rate
    if not same_rate(frame_rate, recipe.frame_rate):
        notes.append(
            f"the recording has {frame_rate:.5g} frames a second, but the bundle was trained at "
            f"{recipe.frame_rate:.5g}: it takes the person for slower or quicker"
        )
    return notes


def _predict_extracted(request: Request, parts: LoadedParts) -> Outcome:
    """A recording made into a trial of a store that is thrown away afterwards."""
    import tempfile

    from offline.prediction.replay import extract
    from offline.prediction.scorecard import score_predictions

    with tempfile.TemporaryDirectory(prefix="affectstream-") as temporary:
        with frame_bar("extracting features", parts.source.info.frames_hint) as advance:
            trial = extract(request.source, parts, Path(temporary), request.labels, advance)
        return score_predictions(trial.name, _predict_trials(request, parts.bundle, [trial]))


def _finish(request: Request, bundle: Bundle, outcome: Outcome) -> None:
    """Files first, then tables: what was computed is on disk whatever happens to the terminal."""
    from offline.files import write_json
    from offline.prediction.files import write_submission, write_trials

    if request.out is not None:
        for predictions in outcome.predictions.values():
            write_trials(request.out, predictions)
        manifest = bundle.manifest
        about = {
            "bundle": {"name": manifest.name, "sha256": bundle.content_hash, "trained": manifest.trained},
            "source": request.source.name,
            "targets": list(bundle.ensemble.targets),
        }
        write_json(request.out / "metrics.json", about | outcome.to_json())
    if request.submission is not None:
        write_submission(request.submission, outcome.predictions[request.contexts[0]])
    _show(request, bundle, outcome)


def _show(request: Request, bundle: Bundle, outcome: Outcome) -> None:
    from rich.console import Console

    from offline.prediction import tables

    console = Console(highlight=False, markup=False, soft_wrap=False)
    cards = outcome.cards
    if outcome.own:
        console.print(tables.own_fold_table(outcome.own, bundle.ensemble.targets))
    elif outcome.labelled:
        console.print(tables.partition_table(cards))
        if len(cards[0].trials) > 1:
            console.print(tables.trial_table(cards))
        if outcome.ablations:
            console.print(tables.ablation_table(cards, outcome.ablations))
    else:
        for context, predictions in outcome.predictions.items():
            console.print(tables.summary_text(context, predictions))
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


def _tell(text: str) -> None:
    typer.echo(text, err=True)


def _use_threads(threads: int | None) -> None:
    from stream.session import use_threads

    use_threads(threads)
