"""offline-preprocess: a data set's recordings into a store of features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from models.console import USER_ERROR, make_app, run, waiting
from models.errors import UserError
from offline.data.aff_wild2 import TOLERANCE_FRAMES
from stream.options import parse_detector

if TYPE_CHECKING:
    from offline.data.aff_wild2 import SourceTrial
    from offline.data.extractors import Extractors
    from offline.data.recipe import FeatureParts
    from offline.data.store import Partition, TrialFacts

HELP: Final = """
Make a store of features from a data set's recordings: Aff-Wild2 as distributed, or a performed corpus. The features
are those of the live engine. Finished trials are skipped, so an interrupted run goes on where it stopped; a recording
that cannot be used is listed at the end.

DATASET holds VA_Estimation_Challenge/{Train_Set,Validation_Set}/*.txt and videos/ (any format, any depth). Optional
are cropped_aligned*/<trial>/00001.jpg, a test set's list of names (*test*.txt), and subjects.csv (trial,subject).

Examples:

  offline-preprocess corpus/ store/                   a performed corpus

  offline-preprocess Aff-Wild2/ store/ --preset paper     VGGish and BERT

  offline-preprocess Aff-Wild2/ store/ --partition validation --limit 5

  offline-preprocess corpus/ store/ --text-encoder bundle:demo --workers 4
"""


def command() -> None:
    """Console script `offline-preprocess`."""
    app = make_app(HELP)
    app.command(help=HELP)(_preprocess)
    run(app)


def _preprocess(
    dataset: Annotated[Path, typer.Argument(help="Folder of the data set.")],
    store: Annotated[Path, typer.Argument(help="Folder of the store: a new one, or one to continue.")],
    partition: Annotated[
        str | None,
        typer.Option(help="Use only this partition: train, validation or test.", show_default=False),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Use only the first so many trials.", min=1, show_default=False)
    ] = None,
    preset: Annotated[
        str, typer.Option(help="compact or paper: decides which encoders `auto` stands for.")
    ] = "compact",
    text_encoder: Annotated[
        str,
        typer.Option(
            help="Text encoder: none, bundle:NAME, an installed part's name, or a folder. auto is bundle:demo, or "
            "BERT with the paper preset."
        ),
    ] = "auto",
    audio_encoder: Annotated[
        str,
        typer.Option(
            help="Audio encoder: none (the store keeps log-mel spectrograms alone) or vggish. auto is none, or "
            "vggish with the paper preset."
        ),
    ] = "auto",
    recogniser: Annotated[
        str,
        typer.Option(
            help="Speech recogniser: none, a Vosk model's name, or a folder. auto is vosk-tiny for a performed "
            "corpus, else the best full model installed."
        ),
    ] = "auto",
    detector: Annotated[
        str,
        typer.Option(
            help="Face detector: haar or yunet. auto takes the crops that came with the data set, and where there "
            "are none yunet if installed, else haar."
        ),
    ] = "auto",
    frame_rate: Annotated[
        float | None,
        typer.Option(
            help="Frame rate for the store in frames per second; the recordings' median rate if not given.",
            min=1,
            max=240,
            show_default=False,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Parallel processes; one for each core if not given.", min=1, show_default=False),
    ] = None,
    tolerance: Annotated[
        int,
        typer.Option(help="Frames by which the lengths of a video and its labels may differ.", min=0),
    ] = TOLERANCE_FRAMES,
    strict: Annotated[
        bool, typer.Option("--strict", help="End with status 2 if any trial could not be made.")
    ] = False,
) -> None:
    from offline.commands.progress import LOADING

    with waiting(LOADING, tell_first=False):
        from filelock import FileLock, Timeout

        from models.machine import usable_processors
        from offline.data.aff_wild2 import find_trials
        from offline.data.preprocess import check_store_folder, is_done, prepare_store
        from offline.data.recipe import PartChoices, choose_parts
        from offline.files import DiskProblem

    check_store_folder(store)
    named = _partition_named(partition)
    with waiting("looking through the recordings", tell_first=False):
        trials = find_trials(dataset, named)[:limit]
        rate = _store_frame_rate(store, trials) if frame_rate is None else frame_rate
    choices = PartChoices(
        preset=preset,
        detector=parse_detector(detector),
        frame_rate=rate,
        recogniser=recogniser,
        text_encoder=text_encoder,
        audio_encoder=audio_encoder,
    )
    with waiting("reading the parts that make features", tell_first=False):
        parts = choose_parts(choices, dataset)
    try:
        store.mkdir(parents=True, exist_ok=True)
        with FileLock(store / ".lock", timeout=0):
            prepare_store(store, parts)
            left = [trial for trial in trials if not is_done(trial, store)]
            done, failed = _make_all(
                left, len(trials), store, parts, workers or usable_processors(), tolerance
            )
    except Timeout:
        raise UserError(f"another offline-preprocess is busy with {store}: let it finish") from None
    except OSError as e:
        raise DiskProblem.of(store, e) from e
    _print_summary(store, trials, left, done, failed)
    if failed and (strict or len(failed) == len(trials)):
        raise typer.Exit(USER_ERROR)


def _make_all(
    left: Sequence[SourceTrial],
    total: int,
    store: Path,
    parts: FeatureParts,
    workers: int,
    tolerance: int,
) -> tuple[list[TrialFacts], dict[str, str]]:
    """Makes what is left; the facts of what was made, and why the rest was not."""
    from offline.commands.progress import TrialProgress
    from offline.files import DiskProblem
    from offline.processes import ToolsFailed, run_jobs

    done: list[TrialFacts] = []
    failed = {trial.name: trial.problem for trial in left if trial.video is None}
    jobs = sorted((t for t in left if t.video is not None), key=lambda t: -(t.rows or 0))
    known = [t.rows for t in jobs if t.rows]
    usual = sum(known) // len(known) if known else 1000
    with TrialProgress("preprocessing", sum(t.rows or usual for t in jobs), len(jobs)) as progress:
        for note in parts.notes:
            progress.print_line(note)
        if len(left) < total:
            progress.print_line(f"{total - len(left)} of {total} trials are in {store} already")
        for name, problem in failed.items():
            progress.print_line(f"{name}: skipped, {problem}")
        if not jobs:
            return done, failed
        finished = run_jobs(
            jobs,
            partial(_make_trial, store, tolerance),
            workers,
            make_tools=partial(_load_extractors, parts),
            on_event=progress.advance,
            retry=True,
        )
        try:
            with closing(finished):
                for end in finished:
                    if isinstance(end.error, DiskProblem | ToolsFailed):
                        raise end.error
                    if end.result is None:
                        failed[end.job.name] = _error_text(end.error)
                        progress.finish_trial(f"{end.job.name}: skipped, {failed[end.job.name]}")
                    else:
                        done.append(end.result)
                        progress.finish_trial(describe(end.result))
        except KeyboardInterrupt:
            progress.print_line("stopped: the same command goes on from here")
            raise
        progress.print_line(_speed_text(progress.rate, min(workers, len(jobs))))
    return done, failed


def describe(facts: TrialFacts) -> str:
    """A made trial in one line: its length, and all that was mended."""
    said = [f"{facts.frames} frames"]
    if facts.padded:
        said.append(
            f"the video is {_frame_count_text(facts.padded)} shorter than the labels: padded with the last"
        )
    if facts.trimmed:
        said.append(
            f"the video is {_frame_count_text(facts.trimmed)} longer than the labels: trimmed at the end"
        )
    faceless = facts.frames - facts.with_face
    if faceless and facts.with_face:
        what = "without an image" if facts.crop_source == "distributed" else "without a face"
        said.append(f"{faceless} {what}")
    return f"{facts.name}: {', '.join([*said, *facts.warnings])}"


def _speed_text(rate: float, workers: int) -> str:
    return f"{rate:.0f} frames/s, {rate / workers:.0f} in each of {workers} processes"


def _frame_count_text(count: int) -> str:
    return f"{count} frame{'s' if count > 1 else ''}"


def _load_extractors(parts: FeatureParts) -> Extractors:
    """What a worker process needs; each keeps to its own core."""
    import cv2
    import torch

    from offline.data.extractors import Extractors

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    return Extractors.load(parts)


def _make_trial(
    store: Path, tolerance: int, extractors: Extractors, trial: SourceTrial, report: Callable[[int], None]
) -> TrialFacts:
    from offline.data.preprocess import preprocess_trial

    return preprocess_trial(trial, store, extractors, tolerance=tolerance, on_frame=lambda: report(1))


def _error_text(error: Exception | None) -> str:
    from offline.processes import WorkerDied

    if isinstance(error, UserError | WorkerDied):
        return " ".join(str(error).split())
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _print_summary(
    store: Path,
    trials: Sequence[SourceTrial],
    left: Sequence[SourceTrial],
    done: Sequence[TrialFacts],
    failed: dict[str, str],
) -> None:
    there = len(trials) - len(left) + len(done)
    typer.echo(f"{store}: {there} of {len(trials)} trials, {len(done)} of them new")
    if failed:
        typer.echo(f"{len(failed)} not made:", err=True)
        for name in sorted(failed):
            typer.echo(f"  {name}: {failed[name]}", err=True)


def _store_frame_rate(store: Path, trials: Sequence[SourceTrial]) -> float:
    """The rate of a store that is there already; else the recordings' median rate."""
    from offline.data.frame_rate import usual_rate
    from offline.data.store import STORE, read_store_manifest

    if (store / STORE).is_file():
        return read_store_manifest(store).recipe.frame_rate
    return usual_rate([trial.video for trial in trials if trial.video is not None])


def _partition_named(name: str | None) -> Partition | None:
    from offline.data.store import PARTITIONS

    for partition in PARTITIONS:
        if name == partition:
            return partition
    if name is None:
        return None
    raise UserError(f"there is no partition '{name}': choose from {', '.join(PARTITIONS)}")
