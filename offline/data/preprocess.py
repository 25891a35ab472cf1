"""One recording to one trial of the store, by the extractors that `stream` serves, as fast as they run."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
import torch
from numpy.typing import NDArray

from models.audio.vggish import Vggish, load_vggish_checkpoint
from models.errors import UserError
from models.files import put_in_place
from models.labels import read_labels
from models.spec import PAPER
from models.speech.recogniser import RecogniserFactory, open_recogniser
from models.speech.words import SpeechEvent
from models.text.embedder import TextEmbedder
from models.visual.alignment import zero_crop
from models.visual.detectors import FaceDetector, make_detector
from models.visual.tracker import FaceTracker
from offline.data.aff_wild2 import DistributedCrops, SourceTrial, count_images
from offline.data.arrays import DiskProblem, RowWriter, write_rows
from offline.data.extraction import Blindfold, OneSide, PatchRows, SettledWords, perceive
from offline.data.recipe import FeatureParts
from offline.data.store import (
    STORE,
    TRIAL,
    StoreManifest,
    TrialFacts,
    read_store_manifest,
    read_trial,
    recipe_differences,
)
from stream.perception.features import FrameFeatures, Perception
from stream.sources.file import MediaFile
from stream.sources.file_clock import same_rate
from stream.sources.scaling import MOST_LONG_SIDE

Floats = NDArray[np.float32]

TOLERANCE: Final = 30
"""Frames by which a video and its labels may differ; in Aff-Wild2 they do by 3 at most."""

_UNSEEN_SIDE: Final = 64
"""Longer side of pictures that nobody looks at, where the crops came with the data set."""

_ENCODED_PATCHES: Final = 32
_UNFINISHED: Final = "-unfinished"


@dataclass(frozen=True, eq=False)
class Extractors:
    """The loaded parts. One set serves one process, a trial at a time."""

    parts: FeatureParts
    detector: FaceDetector
    new_recogniser: RecogniserFactory | None
    embedder: TextEmbedder | None
    audio_encoder: Vggish | None

    @classmethod
    def load(cls, parts: FeatureParts) -> Extractors:
        """Loads everything. Raises UserError where a part is damaged."""
        return cls(
            parts=parts,
            detector=make_detector(parts.detector),
            new_recogniser=None if parts.recogniser is None else open_recogniser(parts.recogniser),
            embedder=None if parts.text_encoder is None else TextEmbedder(parts.text_encoder),
            audio_encoder=None if parts.audio_encoder is None else _open_vggish(parts.audio_encoder),
        )


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
            unfinished = folder / f".{STORE}"
            content = StoreManifest(recipe=recipe).model_dump_json(indent=2) + "\n"
            unfinished.write_text(content, encoding="utf-8")
            unfinished.replace(folder / STORE)
        for left in folder.glob(f".*{_UNFINISHED}"):
            shutil.rmtree(left)
    except OSError as e:
        raise DiskProblem.of(folder, e) from e
    found = read_store_manifest(folder).recipe
    if found != recipe:
        differing = "; ".join(recipe_differences(found, recipe, strict=True))
        raise UserError(
            f"{folder} was made with another recipe: {differing}. Give the same options, or another folder"
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
        raise UserError(f"{e.filename} cannot be read: {e.strerror}") from e
    images = False if trial.crops is None else count_images(trial.crops)
    facts = json.dumps([trial.video.name, size, trial.side, images])
    return hashlib.sha256(facts.encode() + b"\n" + labels).hexdigest()


def preprocess_trial(
    trial: SourceTrial,
    store: Path,
    extractors: Extractors,
    *,
    tolerance: int = TOLERANCE,
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
        with tempfile.TemporaryDirectory(
            prefix=f".{trial.name}-", suffix=_UNFINISHED, dir=store, ignore_cleanup_errors=True
        ) as temporary:
            staged = Path(temporary) / "trial"
            staged.mkdir()
            with _TrialWriter(staged, extractors, crops, labels) as writer:
                perception = Perception(_tracker(trial, extractors, crops), extractors.parts.recipe.logmel)
                for features, events in perceive(source, perception, extractors.new_recogniser):
                    writer.add(features, events)
                    if features is not None:
                        on_frame()
                _check_length(trial, writer.decoded, labels, tolerance)
                writer.finish(1 / source.info.frame_rate)
            facts = _facts(trial, source, crops, writer, extractors.parts)
            _write_facts(staged, facts)
            folder.parent.mkdir(exist_ok=True)
            put_in_place(staged, folder, Path(temporary) / "before")
    except av.FFmpegError as e:
        raise UserError(f"{trial.video} cannot be read to its end: {e.strerror or e}") from e
    except OSError as e:
        raise DiskProblem.of(folder, e) from e
    return facts


class _TrialWriter:
    """The arrays of a trial on their way to disk: the memory it takes does not grow with pictures and vectors.

    The trial has as many frames as labels, or as decoded pictures where there are no labels.
    """

    def __init__(
        self, folder: Path, extractors: Extractors, crops: DistributedCrops | None, labels: Floats | None
    ) -> None:
        recipe = extractors.parts.recipe
        self.decoded = 0
        self.faces: list[bool] = []
        self._folder = folder
        self._distributed = crops
        self._labels = labels
        self._words = SettledWords(extractors.embedder, extractors.parts.text_width)
        self._patches = PatchRows(recipe.logmel)
        self._encoder = extractors.audio_encoder
        self._unencoded: list[Floats] = []
        self._zero = zero_crop(recipe.crop)
        self._times: list[float] = []
        self._ends: list[int] = []
        with ExitStack() as stack:
            self._crops = stack.enter_context(RowWriter(folder / "crops.npy", self._zero.shape, np.uint8))
            self._log_mel = stack.enter_context(
                RowWriter(folder / "logmel.npy", (recipe.logmel.bands,), np.float32)
            )
            self._language = stack.enter_context(
                RowWriter(folder / "language.npy", (extractors.parts.text_width,), np.float32)
            )
            self._audio: RowWriter | None = None
            if self._encoder is not None:
                width = self._encoder.spec.embedding
                self._audio = stack.enter_context(RowWriter(folder / "audio.npy", (width,), np.float32))
            self._files = stack.pop_all()

    def __enter__(self) -> _TrialWriter:
        return self

    def __exit__(self, *raised: Any) -> None:
        self._files.__exit__(*raised)

    @property
    def frames(self) -> int:
        """N, once a frame has been decoded."""
        return self.decoded if self._labels is None else len(self._labels)

    @property
    def annotated(self) -> int:
        """Frames with a label."""
        return 0 if self._labels is None else int((~np.isnan(self._labels[:, 0])).sum())

    def add(self, features: FrameFeatures | None, events: Iterable[SpeechEvent]) -> None:
        """Takes the next frame in, with what was said (None: the end). Frames beyond the labels are only counted."""
        if features is not None:
            self.decoded += 1
            if self.decoded <= self.frames:
                self._perceived(features)
        for vector in self._words.step(None if features is None else features.time_s, events):
            if self._language.rows < self.frames:
                self._language.append(vector[None])

    def finish(self, step_s: float) -> None:
        """Repeats the last features up to the labels' length, the time going on, and writes what is left."""
        self._encode()
        missing = self.frames - len(self._times)
        self._times += [self._times[-1] + step_s * n for n in range(1, missing + 1)]
        self._ends += [self._ends[-1]] * missing
        for writer in (self._language, self._audio):
            if writer is not None:
                writer.repeat_last(missing)
        if self._distributed is None:
            self._crops.repeat_last(missing)
            self.faces += [self.faces[-1]] * missing
        else:
            for _ in range(missing):
                self._see(self._distributed.crop(len(self.faces)))
        labels = self._labels
        if labels is None:
            labels = np.full((self.frames, 2), np.nan, np.float32)
        write_rows(self._folder / "labels.npy", labels)
        write_rows(self._folder / "faces.npy", np.array(self.faces, np.bool_))
        write_rows(self._folder / "times.npy", np.array(self._times, np.float64))
        write_rows(self._folder / "patch_ends.npy", np.array(self._ends, np.int32))
        words = [[_plain(word) for word in utterance] for utterance in self._words.utterances]
        (self._folder / "words.json").write_text(json.dumps(words) + "\n", encoding="utf-8")

    def _perceived(self, features: FrameFeatures) -> None:
        rows, end = self._patches.add(features.patch, features.time_s)
        self._log_mel.append(rows)
        self._ends.append(end)
        self._times.append(features.time_s)
        if self._distributed is None:
            self._see(features.crop if features.face else None)
        else:
            self._see(self._distributed.crop(features.index))
        if self._encoder is not None:
            self._unencoded.append(features.patch)
            if len(self._unencoded) == _ENCODED_PATCHES:
                self._encode()

    def _see(self, crop: NDArray[np.uint8] | None) -> None:
        self._crops.append((self._zero if crop is None else crop)[None])
        self.faces.append(crop is not None)

    @torch.inference_mode()
    def _encode(self) -> None:
        if self._encoder is None or self._audio is None or not self._unencoded:
            return
        self._audio.append(self._encoder(torch.from_numpy(np.stack(self._unencoded))).numpy())
        self._unencoded = []


def _tracker(trial: SourceTrial, extractors: Extractors, crops: DistributedCrops | None) -> FaceTracker:
    detector = extractors.detector
    if crops is not None:
        detector = Blindfold(detector.name)
    elif trial.side is not None:
        detector = OneSide(detector, trial.side)
    return FaceTracker(detector, extractors.parts.recipe.crop)


def _check_length(trial: SourceTrial, decoded: int, labels: Floats | None, tolerance: int) -> None:
    if labels is None:
        return
    apart = abs(decoded - len(labels))
    if apart > tolerance:
        raise UserError(
            f"{trial.video} has {decoded} frames but {len(labels)} labels: is it whole, and the right one? "
            f"(--tolerance {apart} takes it all the same)"
        )


def _facts(
    trial: SourceTrial,
    source: MediaFile,
    crops: DistributedCrops | None,
    writer: _TrialWriter,
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
    source: MediaFile, crops: DistributedCrops | None, writer: _TrialWriter, parts: FeatureParts
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
    unfinished = folder / f".{TRIAL}"
    try:
        unfinished.write_text(facts.model_dump_json(indent=2) + "\n", encoding="utf-8")
        unfinished.replace(folder / TRIAL)
    except OSError as e:
        raise DiskProblem.of(folder / TRIAL, e) from e


def _plain(word: Any) -> dict[str, Any]:
    return {"text": word.text, "start_s": word.start_s, "end_s": word.end_s, "confidence": word.confidence}


def _open_vggish(path: Path) -> Vggish:
    assert PAPER.audio is not None
    with torch.random.fork_rng(devices=[]):
        encoder = Vggish(PAPER.audio.encoder)
    report = load_vggish_checkpoint(encoder, path)
    if report.missing:
        raise UserError(f"{path} does not fill the audio encoder: {report.missing[0]} is missing")
    return encoder.eval().requires_grad_(False)
