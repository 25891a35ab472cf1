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
import math
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from models.errors import UserError
from offline.orphans import end_with_parent
from offline.performer.performance import Candour, perform, script_text
from offline.performer.person import make_person
from offline.performer.recording import write_recording, write_text
from offline.performer.trajectory import Series, random_trajectory, to_text
from offline.performer.voice import espeak_version

Partition = Literal["train", "validation", "test"]

LABELS: Final = "VA_Estimation_Challenge"
FOLDERS: Final[dict[Partition, str]] = {
    "train": "Train_Set",
    "validation": "Validation_Set",
    "test": "Test_Set",
}
PROVENANCE: Final = "performance.json"

# Counts up whenever the same seed no longer gives the same people and performances.
RECIPE: Final = 5
_SHORTEST_TRIAL_S: Final = 2.0
_LONGEST_TRIAL_H: Final = 24


@dataclass(frozen=True)
class PlannedTrial:
    """One recording of the corpus."""

    number: int
    name: str
    partition: Partition
    frames: int


@dataclass(frozen=True)
class CorpusPlan:
    """A corpus before it is made: everything that its content depends on.

    `minutes` are shared evenly by the `people` of training and validation, one trial each; a sixth of them (at
    least one) is the validation partition, as one fold in six is. `test_people` come on top, with trials as long.
    People and feelings go by `seed` and number: the demo bundle knows those of seeds 7 and 101.
    A feeling is forgotten in about `time_constant_s`.
    Raises UserError for numbers that make no corpus.
    """

    people: int = 24
    minutes: float = 20.0
    seed: int = 1
    test_people: int = 0
    time_constant_s: float = 7.0
    frame_rate: float = 30.0
    width: int = 320
    height: int = 240

    def __post_init__(self) -> None:
        if self.people < 2:
            raise UserError(
                f"a corpus needs 2 people or more (one to validate on), not {self.people}: see --people"
            )
        if self.test_people < 0 or self.seed < 0:
            raise UserError("--test-people and --seed cannot be negative")
        if not 0.5 <= self.time_constant_s <= 600:
            raise UserError(f"--time-constant must be 0.5 to 600 seconds, not {self.time_constant_s:g}")
        if not math.isfinite(self.minutes):
            raise UserError(f"--minutes must be a finite number, not {self.minutes}")
        if self.minutes * 60 < _SHORTEST_TRIAL_S * self.people:
            raise UserError(
                f"{self.minutes:g} minutes are too few for {self.people} people: at least {_SHORTEST_TRIAL_S:g} "
                f"seconds each, --minutes {self.people * _SHORTEST_TRIAL_S / 60:.2g}"
            )
        if self.minutes > _LONGEST_TRIAL_H * 60 * self.people:
            raise UserError(
                f"{self.minutes:g} minutes are too many for {self.people} people: at most {_LONGEST_TRIAL_H} hours "
                f"each, --minutes {_LONGEST_TRIAL_H * 60 * self.people}"
            )

    @cached_property
    def trials(self) -> tuple[PlannedTrial, ...]:
        """All trials, in order of their numbers."""
        frames = round(self.minutes * 60 * self.frame_rate / self.people)
        validation = max(1, round(self.people / 6))
        first_validation = self.people - validation
        partitions: list[Partition] = [
            "train" if number < first_validation else "validation" if number < self.people else "test"
            for number in range(self.people + self.test_people)
        ]
        return tuple(
            PlannedTrial(number, f"performer{number:03d}", partition, frames)
            for number, partition in enumerate(partitions)
        )

    def labels(self, trial: PlannedTrial) -> Series:
        """The trial's valence and arousal, (frames, 2)."""
        rng = np.random.default_rng([self.seed, trial.number, 2])
        return random_trajectory(rng, trial.frames, self.frame_rate, time_constant_s=self.time_constant_s)


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
        _refuse_other(made, path)
    elif folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: choose a folder for the corpus")
    elif folder.exists() and any(folder.iterdir()):
        raise UserError(
            f"{folder} is not empty and holds no {PROVENANCE}: choose a new folder for the corpus"
        )
    else:
        write_text(path, json.dumps(made, indent=2) + "\n")
    rows = "".join(f"{t.name},{t.name},{t.partition}\n" for t in plan.trials)
    write_text(folder / "subjects.csv", "trial,subject,partition\n" + rows)
    return [trial for trial in plan.trials if not is_done(plan, folder, trial)]


def perform_trial(plan: CorpusPlan, folder: Path, trial: PlannedTrial) -> PlannedTrial:
    """Perform and write one trial. Raises UserError where that fails."""
    labels = plan.labels(trial)
    person = make_person(plan.seed, trial.number)
    performance = perform(person, labels, seed=plan.seed, frame_rate=plan.frame_rate)
    write_recording(video_path(folder, trial), performance, (plan.width, plan.height))
    write_text(folder / "scripts" / f"{trial.name}.csv", script_text(performance))
    write_text(label_path(folder, trial), to_text(labels))
    return trial


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
            on_done(perform_trial(plan, folder, trial))
        return
    pool = ProcessPoolExecutor(min(workers, len(trials)), get_context("spawn"), initializer=_start_worker)
    try:
        waiting = {pool.submit(_perform_in_worker, plan, folder, trial) for trial in trials}
        for done in _as_finished(waiting):
            on_done(done.result())
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process died (out of memory?): run the same command again to go on"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _as_finished(waiting: set[Future[PlannedTrial]]) -> Iterator[Future[PlannedTrial]]:
    while waiting:
        finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
        yield from finished


class _Worker:
    """A worker process's own state."""

    stopping = False


def _start_worker() -> None:
    """A worker keeps to its own core, and leaves its trial at Ctrl-C (which its whole process group hears)."""
    import cv2

    end_with_parent()
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, _stop_worker)


def _stop_worker(number: int, frame: object) -> None:
    _Worker.stopping = True
    raise SystemExit(128 + number)


def _perform_in_worker(plan: CorpusPlan, folder: Path, trial: PlannedTrial) -> PlannedTrial:
    if _Worker.stopping:
        raise SystemExit(128 + signal.SIGINT)
    return perform_trial(plan, folder, trial)


def _provenance(plan: CorpusPlan) -> dict[str, Any]:
    """How the corpus is made: enough to make it again."""
    return {
        "recipe": RECIPE,
        "note": "Performed people: generated faces and voices, known valence and arousal. Not recordings of anyone.",
        "plan": asdict(plan),
        "candour": asdict(Candour()),
        "tools": {
            "espeak-ng": espeak_version(),
            "numpy": version("numpy"),
            "opencv": version("opencv-python-headless"),
            "av": version("av"),
        },
    }


def _refuse_other(made: dict[str, Any], path: Path) -> None:
    """Raise UserError, naming the first difference, where the folder's corpus was made in another way."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}; choose a new folder for the corpus") from error
    if found == made:
        return
    before, after = _flat(found), _flat(made)
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


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix: tree}
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix} {key}".strip())
    return flat
