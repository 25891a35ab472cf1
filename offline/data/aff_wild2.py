"""Aff-Wild2 as distributed: which trials a data set has, and where their labels, videos and crops are.

    VA_Estimation_Challenge/Train_Set/<trial>.txt      `valence,arousal`, then a row for each video frame
    VA_Estimation_Challenge/Validation_Set/<trial>.txt
    VA_Estimation_Challenge/Test_Set/<trial>.txt       or a list of names, a text file with `test` in its name
    videos/                                            any format, in folders of any depth
    cropped_aligned/<trial>/00001.jpg                  optional; an image is missing where no face was found
    subjects.csv                                       optional: trial (or video), subject

A performed corpus has the same layout. A video of two people gives two trials: `X_left` and `X_right`, or a bare
`X` beside one of them; then the bare one is the other side.
"""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from models.errors import UserError
from models.spec import CropSpec
from offline.data.store import PARTITIONS, Partition
from offline.files import reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

Side = Literal["left", "right"]

FOLDERS: Final[dict[Partition, str]] = {
    "train": "Train_Set",
    "validation": "Validation_Set",
    "test": "Test_Set",
}
_READABLE: Final = "see that it is there whole and may be read, or get the data set again"

LABELS: Final = "VA_Estimation_Challenge"
VIDEOS: Final = "videos"
CROPS: Final = "cropped_aligned"
SUBJECTS: Final = "subjects.csv"
TOLERANCE_FRAMES: Final = 30
"""Frames by which a video and its labels may differ in length; in Aff-Wild2 they do by 3 at most."""


_OTHER_SIDE: Final[dict[Side, Side]] = {"left": "right", "right": "left"}
_DOCUMENTS: Final = {
    ".txt",
    ".csv",
    ".json",
    ".jsonl",
    ".md",
    ".pdf",
    ".html",
    ".srt",
    ".vtt",
    ".npy",
    ".npz",
}
_PICTURES_AND_SOUND: Final = {".jpg", ".jpeg", ".png", ".wav", ".mp3", ".flac"}
_NO_VIDEO: Final = _DOCUMENTS | _PICTURES_AND_SOUND | {".zip", ".tar", ".gz", ".part", ".crdownload", ".db"}
_IMAGES: Final = frozenset({".jpg", ".jpeg", ".png"})


@dataclass(frozen=True)
class SourceTrial:
    """One trial of a data set, before it is in a store.

    `rows` is the number of label rows, None without labels. `video` is None where the trial cannot be made,
    and `problem` says why. `side` is which of two people the trial is about; None where the video shows one.
    """

    name: str
    partition: Partition
    subject: str
    video: Path | None
    problem: str = ""
    labels: Path | None = None
    rows: int | None = None
    crops: Path | None = None
    side: Side | None = None


def find_trials(dataset: Path, partition: Partition | None = None) -> tuple[SourceTrial, ...]:
    """All trials, or a partition's, by partition and name.

    Raises UserError where the folder is no such data set, or contradicts itself.
    """
    if not dataset.is_dir():
        raise UserError(f"{dataset} is not a folder: give the data set's, with {LABELS}/ and {VIDEOS}/ in it")
    if not any(dataset.iterdir()):
        raise UserError(f"{dataset} is empty: give the data set's folder, with {LABELS}/ and {VIDEOS}/ in it")
    root = _label_root(dataset)
    listed = {p: _listed(dataset, root, p) for p in PARTITIONS}
    names = [name for found in listed.values() for name in found]
    if not names:
        raise UserError(
            f"{dataset} has no labels: they belong in {LABELS}/Train_Set/ and {LABELS}/Validation_Set/, "
            "one .txt for each trial"
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"{dataset} has the trial '{twice[0]}' in two partitions: remove one of them")
    if partition is not None and not listed[partition]:
        there = ", ".join(p for p in PARTITIONS if listed[p])
        raise UserError(
            f"{dataset} has no trials in the {partition} partition, only in {there}",
            way_out="give another --partition, or none for all",
        )
    videos = _Videos(dataset, root)
    crops = _crop_folders(dataset, frozenset(names))
    subjects = read_subjects(dataset / SUBJECTS)
    known = frozenset(names)
    return tuple(
        _source(name, p, labels, known, videos, crops, subjects)
        for p in PARTITIONS
        if partition in (None, p)
        for name, labels in listed[p].items()
    )


def has_crops(dataset: Path) -> bool:
    """Whether crops came with the data set."""
    return any(top.is_dir() for top in dataset.glob(f"{CROPS}*"))


def split_side(name: str, names: Iterable[str]) -> tuple[str, Side | None]:
    """The video's name of a trial, and whom of two people the trial is about, given all trials' names."""
    names = frozenset(names)
    for side in _OTHER_SIDE:
        if name.endswith(f"_{side}"):
            return name.removesuffix(f"_{side}"), side
    beside = [side for side in _OTHER_SIDE if f"{name}_{side}" in names]
    return name, _OTHER_SIDE[beside[0]] if len(beside) == 1 else None


def count_rows(path: Path) -> int:
    """About how many rows a label file has, without reading its numbers."""
    try:
        content = path.read_bytes().rstrip()
    except OSError as e:
        raise UserError(f"{path} cannot be read ({reason(e)})", way_out=_READABLE) from e
    return content.count(b"\n")


def read_subjects(path: Path) -> dict[str, str]:
    """Subjects by trial or video, empty where there is no file. Raises UserError for what is no such table."""
    if not path.is_file():
        return {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = [[cell.strip() for cell in row] for row in csv.reader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise UserError(f"{path} cannot be read ({reason(e)})", way_out=_READABLE) from e
    columns = [name.lower() for name in table[0]] if table else []
    key = next((name for name in ("trial", "video") if name in columns), None)
    if key is None or "subject" not in columns:
        raise UserError(
            f"{path} must begin with the columns 'trial' (or 'video') and 'subject'",
            way_out="add that line, or remove the file: each video is a subject then",
        )
    at, of = columns.index(key), columns.index("subject")
    subjects: dict[str, str] = {}
    for number, row in enumerate(table[1:], start=2):
        if not any(row):
            continue
        if len(row) <= max(at, of) or not row[at] or not row[of]:
            raise UserError(
                f"{path} line {number} lacks a {key} or its subject", way_out="mend the line, or take it out"
            )
        if subjects.setdefault(row[at], row[of]) != row[of]:
            raise UserError(
                f"{path} line {number} gives '{row[at]}' a second subject", way_out="leave one of the lines"
            )
    return subjects


def count_images(folder: Path) -> int:
    """How many crops there are in a trial's folder. Raises UserError where it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return sum(os.path.splitext(entry.name)[1].lower() in _IMAGES for entry in entries)
    except OSError as e:
        raise UserError(f"{folder} cannot be read ({reason(e)})", way_out=_READABLE) from e


class DistributedCrops:
    """The cropped and aligned faces that come with a trial: image `00001.jpg` is of frame 0.

    `unreadable` counts images that were there and could not be read; `beyond` says of how many frames there are
    images.
    """

    def __init__(self, folder: Path, spec: CropSpec | None = None) -> None:
        """Lists the folder. Raises UserError where that fails."""
        self._spec = spec or CropSpec()
        self.unreadable = 0
        try:
            with os.scandir(folder) as entries:
                self._paths = {
                    int(stem): entry.path
                    for entry in entries
                    for stem, suffix in [os.path.splitext(entry.name)]
                    if suffix.lower() in _IMAGES and stem.isascii() and stem.isdigit()
                }
        except OSError as e:
            raise UserError(f"{folder} cannot be read ({reason(e)})", way_out=_READABLE) from e

    @property
    def frames(self) -> int:
        """The last frame that has an image, counted from 1."""
        return max(self._paths, default=0)

    def crop(self, frame: int) -> NDArray[np.uint8] | None:
        """The crop (48, 48, 3) RGB of a frame, counted from 0; None where there is no image to be read."""
        import cv2

        from models.visual.alignment import to_crop

        path = self._paths.get(frame + 1)
        if path is None:
            return None
        try:
            found = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
        except (OSError, cv2.error):
            found = None
        if found is None:
            self.unreadable += 1
            return None
        return to_crop(cv2.cvtColor(found, cv2.COLOR_BGR2RGB), self._spec)


class _Videos:
    """Where the videos are, by their names without suffix."""

    def __init__(self, dataset: Path, label_root: Path) -> None:
        found: dict[str, list[Path]] = {}
        top = dataset / VIDEOS
        for path in _files(top if top.is_dir() else dataset, label_root):
            found.setdefault(path.stem, []).append(path)
        self._found = found

    def __contains__(self, stem: str) -> bool:
        return stem in self._found

    def get(self, stem: str) -> tuple[Path | None, str]:
        """The video, or why there is none."""
        paths = self._found.get(stem, [])
        if len(paths) == 1:
            return paths[0], ""
        if paths:
            return None, f"there are {len(paths)} videos of that name: {', '.join(map(str, sorted(paths)))}"
        return None, f"there is no video '{stem}' in {VIDEOS}/"


def _source(
    name: str,
    partition: Partition,
    labels: Path | None,
    names: frozenset[str],
    videos: _Videos,
    crops: Mapping[str, Path],
    subjects: Mapping[str, str],
) -> SourceTrial:
    stem, side = split_side(name, names)
    if stem != name and name in videos:
        # A suffix that is part of the video's own name.
        stem, side = name, None
    video, problem = videos.get(stem)
    rows = None
    if labels is not None:
        try:
            rows = count_rows(labels)
        except UserError as e:
            video, problem = None, str(e)
    return SourceTrial(
        name=name,
        partition=partition,
        subject=subjects.get(name, subjects.get(stem, stem)),
        video=video,
        problem=problem,
        labels=labels,
        rows=rows,
        crops=crops.get(name),
        side=side,
    )


def _label_root(dataset: Path) -> Path:
    """The folder that holds `Train_Set` and its siblings; the data set's own where there is none."""
    candidates = [dataset / LABELS, dataset, *sorted(dataset.glob(f"*/{LABELS}"))]
    for candidate in candidates:
        if any((candidate / folder).is_dir() for folder in FOLDERS.values()):
            return candidate
    return dataset / LABELS


def _listed(dataset: Path, root: Path, partition: Partition) -> dict[str, Path | None]:
    """The names of a partition's trials, sorted, each with its label file where it has one."""
    folder = root / FOLDERS[partition]
    found: dict[str, Path | None] = {
        path.stem: path for path in sorted(folder.glob("*.txt")) if not path.name.startswith(".")
    }
    if partition == "test" and not found:
        found = {name: None for list_ in _test_lists(dataset, root) for name in _read_list(list_)}
    return dict(sorted(found.items()))


def _test_lists(dataset: Path, root: Path) -> list[Path]:
    places = dict.fromkeys([root, root.parent, dataset])
    inside = [place for place in places if place.is_relative_to(dataset) and place.is_dir()]
    return sorted({p for place in inside for p in place.glob("*.txt") if "test" in p.stem.lower()})


def _read_list(path: Path) -> Iterator[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"{path} cannot be read ({reason(e)})", way_out=_READABLE) from e
    for number, line in enumerate(lines, start=1):
        name = line.strip().removesuffix(".txt")
        if not name:
            continue
        if name.startswith(".") or any(c in "/\\:," or not c.isprintable() for c in name):
            raise UserError(
                f"{path} line {number} is no trial's name: '{name[:40]}'",
                way_out="mend the line, or take it out",
            )
        yield name


def _files(top: Path, label_root: Path) -> Iterator[Path]:
    """What may be a video under `top`, without looking into labels and crops."""
    for folder, folders, files in os.walk(top, followlinks=True):
        here = Path(folder)
        folders[:] = sorted(
            f
            for f in folders
            if not f.startswith((".", CROPS)) and here / f != label_root and f not in FOLDERS.values()
        )
        for file in sorted(files):
            path = here / file
            if not file.startswith(".") and path.suffix and path.suffix.lower() not in _NO_VIDEO:
                yield path


def _crop_folders(dataset: Path, names: frozenset[str]) -> dict[str, Path]:
    """Crop folders by trial: in `cropped_aligned*`, or one folder (a batch) further down."""
    found: dict[str, Path] = {}
    for top in sorted(p for p in dataset.glob(f"{CROPS}*") if p.is_dir()):
        for entry in sorted(p for p in top.iterdir() if p.is_dir()):
            if entry.name in names:
                found.setdefault(entry.name, entry)
                continue
            with os.scandir(entry) as inside:
                inner = sorted(e.name for e in inside if e.name in names and e.is_dir())
            found |= {name: entry / name for name in inner if name not in found}
    return found
