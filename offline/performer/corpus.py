"""A performed corpus on disk: many people, one trial each, in the layout of Aff-Wild2.

    VA_Estimation_Challenge/{Train_Set,Validation_Set,Test_Set}/<trial>.txt    labels, a row for each video frame
    videos/<trial>.mp4                                                         the recordings
    scripts/<trial>.csv                                                        what is said, and when
    subjects.csv                                                               trial, subject, partition
    performance.json                                                           how the corpus was made

Aff-Wild2 keeps its test labels to itself; a performed test set has them.
"""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from models.errors import UserError
from offline.files import read_json, remove_unfinished, write_text
from offline.performer.performance import Expressiveness, perform, script_text
from offline.performer.person import make_person
from offline.performer.recording import write_recording
from offline.performer.trajectory import to_text
from offline.performer.voice import espeak_version
from offline.processes import WorkerDied, run_jobs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from offline.performer.plan import CorpusPlan, Partition, PlannedTrial

LABELS: Final = "VA_Estimation_Challenge"
FOLDERS: Final[dict[Partition, str]] = {
    "train": "Train_Set",
    "validation": "Validation_Set",
    "test": "Test_Set",
}
PROVENANCE: Final = "performance.json"

# Counts up whenever the same seed no longer gives the same people and performances.
RECIPE: Final = 5


def label_path(folder: Path, trial: PlannedTrial) -> Path:
    """Where the trial's labels are."""
    return folder / LABELS / FOLDERS[trial.partition] / f"{trial.name}.txt"


def video_path(folder: Path, trial: PlannedTrial) -> Path:
    """Where the trial's recording is."""
    return folder / "videos" / f"{trial.name}.mp4"


def is_done(plan: CorpusPlan, folder: Path, trial: PlannedTrial) -> bool:
    """Whether the trial is there, whole: its labels are written last."""
    try:
        labelled = label_path(folder, trial).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    return video_path(folder, trial).is_file() and labelled == to_text(plan.labels(trial))


def prepare_corpus(plan: CorpusPlan, folder: Path) -> list[PlannedTrial]:
    """Make the folder ready, and say which trials are still to be performed.

    Raises UserError where the folder holds a corpus made otherwise (other numbers, other versions of what makes
    it), or something that is no corpus, or cannot be written; and where espeak-ng is missing.
    """
    made = _provenance(plan)
    path = folder / PROVENANCE
    if path.exists():
        _refuse_other_corpus(made, path)
    elif folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: choose a folder for the corpus")
    elif folder.exists() and any(folder.iterdir()):
        raise UserError(
            f"{folder} is not empty and holds no {PROVENANCE}: choose a new folder for the corpus"
        )
    else:
        write_text(path, json.dumps(made, indent=2) + "\n")
    remove_unfinished(folder, deep=True)
    rows = "".join(f"{t.name},{t.name},{t.partition}\n" for t in plan.trials)
    write_text(folder / "subjects.csv", "trial,subject,partition\n" + rows)
    return [trial for trial in plan.trials if not is_done(plan, folder, trial)]


def perform_trial(plan: CorpusPlan, folder: Path, trial: PlannedTrial) -> None:
    """Perform and write one trial. Raises UserError where that fails."""
    labels = plan.labels(trial)
    person = make_person(plan.seed, trial.number)
    performance = perform(person, labels, seed=plan.seed, frame_rate=plan.frame_rate)
    write_recording(video_path(folder, trial), performance, (plan.width, plan.height))
    write_text(folder / "scripts" / f"{trial.name}.csv", script_text(performance))
    write_text(label_path(folder, trial), to_text(labels))


def perform_corpus(
    plan: CorpusPlan,
    folder: Path,
    trials: list[PlannedTrial],
    workers: int,
    on_done: Callable[[PlannedTrial], None],
) -> None:
    """Perform these trials in parallel processes, calling `on_done` after each.

    What was finished stays when this is interrupted. Raises UserError where a trial cannot be made.
    """
    if workers < 1:
        raise UserError(f"--workers must be 1 or more, not {workers}")
    if workers == 1 or len(trials) < 2:
        for trial in trials:
            perform_trial(plan, folder, trial)
            on_done(trial)
        return
    work = partial(_perform_in_worker, plan, folder)
    with closing(run_jobs(trials, work, workers, make_tools=_use_one_core)) as finished:
        for end in finished:
            if isinstance(end.error, WorkerDied):
                raise UserError("a worker process died (out of memory?): run the same command again to go on")
            if end.error is not None:
                raise end.error
            on_done(end.job)


def _use_one_core() -> None:
    """A worker process keeps to its own core."""
    import cv2

    cv2.setNumThreads(1)


def _perform_in_worker(
    plan: CorpusPlan, folder: Path, _: None, trial: PlannedTrial, report: Callable[[object], None]
) -> None:
    perform_trial(plan, folder, trial)


def _provenance(plan: CorpusPlan) -> dict[str, Any]:
    """How the corpus is made: enough to make it again."""
    return {
        "recipe": RECIPE,
        "note": "Performed people: generated faces and voices, known valence and arousal. Not recordings of anyone.",
        "plan": asdict(plan),
        # the key that corpora on disk have
        "candour": asdict(Expressiveness()),
        "tools": {
            "espeak-ng": espeak_version(),
            "numpy": version("numpy"),
            "opencv": version("opencv-python-headless"),
            "av": version("av"),
        },
    }


def _refuse_other_corpus(made: dict[str, Any], path: Path) -> None:
    """Raise UserError, naming the first difference, where the folder's corpus was made in another way."""
    found = read_json(path, way_out="choose a new folder for the corpus")
    if found == made:
        return
    before, after = _flat_keys(found), _flat_keys(made)
    if before.get("recipe") != after["recipe"]:
        raise UserError(
            f"{path.parent} holds a corpus of another version of offline-perform: choose a new folder for the corpus"
        )
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) != after.get(key):
            raise UserError(
                f"{path.parent} holds a corpus made with {key} {before.get(key)}, not {after.get(key)}: "
                "choose a new folder for the corpus"
            )


def _flat_keys(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix: tree}
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat_keys(value, f"{prefix} {key}".strip())
    return flat
