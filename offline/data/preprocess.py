"""One recording to one trial of the store, by the extractors that `stream` serves, as fast as they run."""

from __future__ import annotations

import hashlib
import json
import shutil
from typing import TYPE_CHECKING, Final

import av
import numpy as np
from numpy.typing import NDArray

from models.errors import UserError
from models.labels import read_labels
from models.visual.tracker import FaceTracker
from offline.data.aff_wild2 import TOLERANCE_FRAMES, DistributedCrops, SourceTrial, count_images
from offline.data.extraction import NoFaceDetector, OneSideDetector, perceive
from offline.data.store import (
    STORE,
    TRIAL,
    StoreManifest,
    TrialFacts,
    read_store_manifest,
    read_trial,
    recipe_differences,
)
from offline.data.trial_writer import TrialWriter
from offline.files import (
    UNFINISHED_FOLDER,
    DiskProblem,
    reason,
    remove_unfinished,
    replacing_folder,
    write_text,
)
from stream.perception.features import Perception
from stream.sources.file import MediaFile
from stream.sources.file_clock import same_rate
from stream.sources.scaling import MOST_LONG_SIDE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from offline.data.extractors import Extractors
    from offline.data.recipe import FeatureParts

Floats = NDArray[np.float32]

_UNSEEN_SIDE: Final = 64
"""Longer side of pictures that nobody looks at, where the crops came with the data set."""


class LengthsDiffer(UserError):
    """A video and its labels differ in length by more frames than are tolerated."""

    def __init__(self, video: Path, frames: int, labels: int) -> None:
        problem = f"{video} has {frames} frames but {labels} labels: is it whole, and the right one?"
        super().__init__(f"{problem} (--tolerance {abs(frames - labels)} takes it all the same)")
        self.problem = problem
        self.video, self.frames, self.labels = video, frames, labels

    def __reduce__(self) -> tuple[type[LengthsDiffer], tuple[Path, int, int]]:
        return type(self), (self.video, self.frames, self.labels)


def check_store_folder(folder: Path) -> None:
    """Raises UserError where the folder is there and is neither empty nor a store."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: give a folder for the store")
    if (folder / STORE).is_file() or not folder.exists():
        return
    if any(not path.name.startswith(".") for path in folder.iterdir()):
        raise UserError(f"{folder} holds something that is not a store: give another folder")


def prepare_store(folder: Path, parts: FeatureParts) -> None:
    """Makes the store's folder, or holds one that is there to the recipe; clears away what a kill left half-written.

    Raises UserError where the folder holds something else, or features of another recipe; DiskProblem.
    """
    check_store_folder(folder)
    recipe = parts.recipe
    try:
        if not (folder / STORE).is_file():
            folder.mkdir(parents=True, exist_ok=True)
            write_text(folder / STORE, StoreManifest(recipe=recipe).model_dump_json(indent=2) + "\n")
        remove_unfinished(folder)
        for left in folder.glob(f".*{UNFINISHED_FOLDER}"):
            shutil.rmtree(left)
    except OSError as e:
        raise DiskProblem.of(folder, e) from e
    found = read_store_manifest(folder).recipe
    if found != recipe:
        differing = "; ".join(recipe_differences(found, recipe, strict=True))
        raise UserError(
            f"{folder} was made with another recipe: {differing}",
            way_out="give the same options, or another folder",
        )


def trial_folder(trial: SourceTrial, store: Path) -> Path:
    """Where a trial is kept."""
    return store / trial.partition / trial.name


def is_done(trial: SourceTrial, store: Path) -> bool:
    """Whether the trial is in the store, from the same labels, video and crops; a new subject is taken over.

    Raises DiskProblem where that cannot be written.
    """
    folder = trial_folder(trial, store)
    try:
        facts = read_trial(folder)
        if facts is None or trial.video is None or facts.fingerprint != fingerprint(trial):
            return False
    except UserError:
        # What is damaged is made again, or says then what is wrong.
        return False
    if facts.subject != trial.subject:
        _write_facts(folder, facts.model_copy(update={"subject": trial.subject}))
    return True


def fingerprint(trial: SourceTrial) -> str:
    """What a trial is made from: its labels' content, its video's name and size, how many crops came with it.

    Raises UserError where that cannot be read.
    """
    assert trial.video is not None
    try:
        size = trial.video.stat().st_size
        labels = b"" if trial.labels is None else trial.labels.read_bytes()
    except OSError as e:
        raise UserError(
            f"{e.filename} cannot be read ({reason(e)})", way_out="see that it may be read"
        ) from e
    images = False if trial.crops is None else count_images(trial.crops)
    facts = json.dumps([trial.video.name, size, trial.side, images])
    return hashlib.sha256(facts.encode() + b"\n" + labels).hexdigest()


def preprocess_trial(
    trial: SourceTrial,
    store: Path,
    extractors: Extractors,
    *,
    tolerance: int = TOLERANCE_FRAMES,
    on_frame: Callable[[], None] = lambda: None,
) -> TrialFacts:
    """Makes one trial: its folder appears in the store whole or not at all, in place of one that was there.

    `on_frame` is called after each frame; what it raises ends the work. Raises UserError where the video or the
    labels cannot be used, or their lengths differ by more than `tolerance` frames; DiskProblem.
    """
    if trial.video is None:
        raise UserError(trial.problem)
    labels = None if trial.labels is None else read_labels(trial.labels).astype(np.float32)
    crops = None
    if extractors.parts.takes_crops and trial.crops is not None:
        crops = DistributedCrops(trial.crops, extractors.parts.recipe.crop)
    source = MediaFile(trial.video, max_long_side=MOST_LONG_SIDE if crops is None else _UNSEEN_SIDE)
    folder = trial_folder(trial, store)
    try:
        with replacing_folder(folder, beside=store) as staged:
            staged.mkdir()
            with TrialWriter(staged, extractors, crops, labels) as writer:
                perception = Perception(_tracker(trial, extractors, crops), extractors.parts.recipe.logmel)
                for features, events in perceive(source, perception, extractors.new_recogniser):
                    writer.add(features, events)
                    if features is not None:
                        on_frame()
                _check_length(trial, writer.decoded, labels, tolerance)
                writer.finish(1 / source.info.frame_rate)
            facts = _facts(trial, source, crops, writer, extractors.parts)
            _write_facts(staged, facts)
    except av.FFmpegError as e:
        raise UserError(
            f"{trial.video} cannot be read to its end ({reason(e)})", way_out="get it again, or take it out"
        ) from e
    except OSError as e:
        raise DiskProblem.of(folder, e) from e
    return facts


def _tracker(trial: SourceTrial, extractors: Extractors, crops: DistributedCrops | None) -> FaceTracker:
    detector = extractors.detector
    if crops is not None:
        detector = NoFaceDetector(detector.name)
    elif trial.side is not None:
        detector = OneSideDetector(detector, trial.side)
    return FaceTracker(detector, extractors.parts.recipe.crop)


def _check_length(trial: SourceTrial, decoded: int, labels: Floats | None, tolerance: int) -> None:
    if labels is not None and abs(decoded - len(labels)) > tolerance:
        assert trial.video is not None
        raise LengthsDiffer(trial.video, decoded, len(labels))


def _facts(
    trial: SourceTrial,
    source: MediaFile,
    crops: DistributedCrops | None,
    writer: TrialWriter,
    parts: FeatureParts,
) -> TrialFacts:
    assert trial.video is not None
    return TrialFacts(
        name=trial.name,
        partition=trial.partition,
        subject=trial.subject,
        video=trial.video.name,
        frames=writer.frames,
        frame_rate=source.info.frame_rate,
        annotated=writer.annotated,
        with_face=sum(writer.faces),
        crop_source="detected" if crops is None else "distributed",
        has_sound=source.info.has_audio,
        padded=max(0, writer.frames - writer.decoded),
        trimmed=max(0, writer.decoded - writer.frames),
        warnings=tuple(_warnings(source, crops, writer, parts)),
        fingerprint=fingerprint(trial),
    )


def _warnings(
    source: MediaFile, crops: DistributedCrops | None, writer: TrialWriter, parts: FeatureParts
) -> Iterator[str]:
    if not same_rate(source.info.frame_rate, parts.recipe.frame_rate):
        yield f"{source.info.frame_rate:.5g} frames a second, not the store's {parts.recipe.frame_rate:.5g}"
    if crops is None and parts.takes_crops:
        yield f"no crops came with it: faces by {parts.detector}"
    if not any(writer.faces):
        yield "no face in any frame"
    if not source.info.has_audio:
        yield "no sound"
    if crops is not None:
        if crops.unreadable:
            yield f"{crops.unreadable} images cannot be read"
        if crops.frames > writer.frames:
            yield f"images up to {crops.frames} left out"
    for name in ("decode_errors", "read_errors", "corrupt_frames"):
        if source.counters.get(name):
            yield f"{source.counters[name]} {name.replace('_', ' ')}"


def _write_facts(folder: Path, facts: TrialFacts) -> None:
    write_text(folder / TRIAL, facts.model_dump_json(indent=2) + "\n")
