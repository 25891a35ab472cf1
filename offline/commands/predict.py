"""offline-predict: a bundle's estimates over a store's trials or a recording, and how well they agree with labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias

import typer

from models.console import make_app, run
from models.errors import UserError
from models.spec import Modality

if TYPE_CHECKING:
    from models.bundle import Bundle
    from offline.folds import FoldSplit
    from offline.options import Context
    from offline.predict import Prediction
    from offline.scorecard import Ablations, OwnFoldScores, Scorecard
    from offline.store import Store, TrialRecord
    from stream.assembly import Parts

HELP: Final = """
Predict valence and arousal with a bundle: for a store's trials, or for any recording.

Context stream (the default) is one causal pass and running centering: what the live engine settles on. Context
windows is the report's: windows of 300 frames every 200, overlaps averaged, each trial's whole series centered.

Examples:

  offline-predict demo store/ --partition test
      scores on people that no fold trained on

  offline-predict bundle/ store/ --context both --out predictions/
      both contexts side by side; a CSV per trial and all scores as JSON

  offline-predict bundle/ store/ --partition test --submission va.txt --context windows
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


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """All predictions by context, and the scores of those with labels."""

    predictions: dict[Context, list[Prediction]]
    cards: tuple[Scorecard, ...]
    ablations: Ablations
    own: tuple[tuple[Context, OwnFoldScores], ...] = ()


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
    device: Annotated[str, typer.Option(help="For stores: cpu, cuda or cuda:N.")] = "cpu",
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
    from models.bundle import load_bundle
    from offline.predict import check_store
    from offline.store import Store

    if request.labels is not None:
        raise UserError("--labels is for a recording: a store has its own")
    _use_threads(request.threads)
    store = Store.open(request.source)
    bundle = load_bundle(request.bundle, missing_parts="tolerate")
    check_store(bundle, store)
    _tell_missing(bundle)
    _finish(request, bundle, _predict_trials(request, bundle, store))


def _predict_trials(request: Request, bundle: Bundle, store: Store) -> Outcome:
    from offline.scorecard import make_scorecard

    split: FoldSplit | None = None
    numbers: tuple[int, ...] = ()
    if request.own_fold is not None:
        from offline.folds import check_split, read_folds
        from offline.scorecard import score_own_folds

        split = read_folds(request.own_fold)
        check_split(split, store.trials(), request.own_fold)
        numbers = _fold_numbers(bundle, split.folds, request.own_fold)
        trials = [store.trial(name) for k in numbers for name in split.fold(k).validation]
        trials = [t for t in trials if not request.trials or t.name in request.trials]
        name = "all folds' validation parts"
    else:
        trials, name = _choose(request, store), request.partition
    predictions, masked = _run(request, bundle, trials)
    if split is not None:
        own = tuple(
            (c, score_own_folds(split, numbers, {p.trial: p for p in of_context}))
            for c, of_context in predictions.items()
        )
        return Outcome(predictions, (), {}, own)
    cards = tuple(make_scorecard(name, of_context) for of_context in predictions.values())
    return Outcome(predictions, cards, _score_masked(masked))


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


Masked: TypeAlias = "dict[Context, dict[Modality, list[Prediction]]]"


def _run(
    request: Request, bundle: Bundle, trials: Sequence[TrialRecord]
) -> tuple[dict[Context, list[Prediction]], Masked]:
    """Predictions by context, whole and with each branch masked; every trial is embedded once."""
    from offline.predict import embed_trial, predict_trial

    absent = [m.value for m in request.without if m not in bundle.ensemble.modalities]
    if absent:
        raise UserError(f"the bundle '{bundle.manifest.name}' has no {absent[0]} branch to ablate")
    device = _device(request.device)
    bundle.ensemble.to(device)
    if bundle.audio_encoder is not None:
        bundle.audio_encoder.to(device)
    whole: dict[Context, list[Prediction]] = {c: [] for c in request.contexts}
    masked: Masked = {c: {m: [] for m in request.without} for c in request.contexts}
    with _progress("predicting", sum(t.frames for t in trials)) as advance:
        for trial in trials:
            embeddings = embed_trial(bundle, trial, device)
            for c in request.contexts:
                whole[c].append(predict_trial(bundle, trial, embeddings, c))
                for m in request.without:
                    masked[c][m].append(predict_trial(bundle, trial, embeddings.without(m), c))
            advance(trial.frames)
    return whole, masked


def _score_masked(masked: Masked) -> Ablations:
    from offline.scorecard import score_values

    return {c: {m: score_values(found) for m, found in by.items()} for c, by in masked.items() if by}


def _predict_recording(request: Request) -> None:
    """Through the engine itself for plain estimates; from extracted features for whatever else is asked."""
    if request.trials or request.own_fold is not None:
        raise UserError(f"--trial and --own-fold are for a store, and {request.source} is a file")
    from stream.assembly import input_status, load
    from stream.choices import Choices

    _use_threads(request.threads)
    choices = Choices(
        source=str(request.source),
        bundle=request.bundle,
        pace="fast",
        detector=request.detector,
        recogniser=request.recogniser,
    )
    parts = load(choices)
    try:
        for name, status in input_status(parts).items():
            if status.health != "ok":
                way_out = f" ({status.way_out})" if status.way_out else ""
                _tell(f"{name}: {status.detail}{way_out}")
        hint = parts.source.info.frames_hint
        if request.contexts == ("stream",) and not request.without and request.labels is None:
            from offline.replay import replay

            with _progress("predicting", hint) as advance:
                found = replay(parts, advance)
            if not len(found.times):
                raise UserError(f"{request.source} has no frame that could be decoded")
            outcome = Outcome({"stream": [found]}, (), {})
        else:
            outcome = _predict_extracted(request, parts)
    finally:
        parts.source.close()
    _finish(request, parts.bundle, outcome)


def _predict_extracted(request: Request, parts: Parts) -> Outcome:
    """A recording made into a trial of a store that is thrown away afterwards."""
    import tempfile

    from offline.replay import extract
    from offline.scorecard import make_scorecard

    with tempfile.TemporaryDirectory(prefix="affectstream-") as temporary:
        with _progress("extracting features", parts.source.info.frames_hint) as advance:
            trial = extract(request.source, parts, Path(temporary), request.labels, advance)
        predictions, masked = _run(request, parts.bundle, [trial])
    if request.without and request.labels is None:
        raise UserError("--ablate compares scores, and this recording has no labels: give --labels")
    cards = tuple(make_scorecard(trial.name, found) for found in predictions.values())
    return Outcome(predictions, cards, _score_masked(masked))


def _finish(request: Request, bundle: Bundle, outcome: Outcome) -> None:
    """Files first, then tables: what was computed is on disk whatever happens to the terminal."""
    from offline.checkpointing import write_json
    from offline.submission import write_submission, write_trials

    if request.out is not None:
        for predictions in outcome.predictions.values():
            write_trials(request.out, predictions)
        write_json(request.out / "metrics.json", _metrics_json(request, bundle, outcome))
    if request.submission is not None:
        write_submission(request.submission, outcome.predictions[request.contexts[0]])
    _show(request, bundle, outcome)


def _metrics_json(request: Request, bundle: Bundle, outcome: Outcome) -> dict[str, Any]:
    manifest = bundle.manifest
    ablations = {
        context: {
            f"without {m.value}": {t: dataclasses.asdict(s) for t, s in scores.items()}
            for m, scores in by_branch.items()
        }
        for context, by_branch in outcome.ablations.items()
    }
    return {
        "bundle": {"name": manifest.name, "sha256": bundle.content_hash, "trained": manifest.trained},
        "source": request.source.name,
        "targets": list(bundle.ensemble.targets),
        "contexts": {card.context: card.to_json() for card in outcome.cards},
        "ablation": ablations,
        "own_folds": {context: own.to_json() for context, own in outcome.own},
    }


def _show(request: Request, bundle: Bundle, outcome: Outcome) -> None:
    from rich.console import Console

    from offline import tables

    console = Console(highlight=False, markup=False, soft_wrap=False)
    cards = outcome.cards
    if outcome.own:
        console.print(tables.own_fold_table(outcome.own, bundle.ensemble.targets))
    elif cards and cards[0].whole.labelled:
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
    scored = any(card.whole.labelled for card in outcome.cards)
    if scored and request.source.is_dir() and manifest.trained and not request.trials:
        trained_on = {"train": "all folds", "validation": "all folds but fold 0", "all": "the folds"}
        if request.partition in trained_on and bundle.ensemble.folds > 1:
            notes.append(
                f"if this is the store that the bundle comes from, {trained_on[request.partition]} trained on people "
                "of this partition: what the centered merge is worth shows on people that no fold has seen "
                "(--partition test, or another store)"
            )
    return notes


def _tell_missing(bundle: Bundle) -> None:
    for part in bundle.missing:
        _tell(f"{part} is not installed: `models-pull {part}`")


def _tell(text: str) -> None:
    typer.echo(text, err=True)


def _device(choice: str) -> str:
    import torch

    kind, _, number = choice.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()):
        raise UserError(f"--device is cpu, cuda or cuda:N, not '{choice}'")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise UserError(f"there is no CUDA device {number or 0} here: give --device cpu")
    return choice


def _use_threads(threads: int | None) -> None:
    from stream.session import use_threads

    use_threads(threads)


@contextmanager
def _progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar over frames on a terminal's stderr; what it gives takes the number of further frames."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task(what, total=total)
        yield lambda frames: bars.advance(task, frames)
