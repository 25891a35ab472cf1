"""From files of real material to what trials are composed of."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from models.errors import UserError
from models.files import file_hash, file_hashes, tree_hash
from models.visual.framing import Square
from offline.composer.detected_faces import DetectedFaces, detect_faces
from offline.composer.material import Comment, Material, Pictures, Sentence, split_material
from offline.composer.plan import TRAINING_PARTS
from offline.files import reason
from offline.people import emodb, ferplus, goemotions
from offline.people.sound import read_sound
from offline.people.text_normalisation import spoken_words

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from models.visual.detectors import FaceDetector

_FEWEST_WORDS: Final = 3
_MOST_WORDS: Final = 16


@dataclass(frozen=True)
class MaterialFiles:
    """Where the material is: FER+ archives, a folder of EmoDB, tables of GoEmotions; some held out of training.

    `held_out_speakers` are kept for the test trials.
    """

    faces: Path
    voices: Path
    texts: Path
    test_faces: Path | None = None
    test_texts: Path | None = None
    held_out_speakers: tuple[str, ...] = ()

    def content_hash(self) -> str:
        """Over everything that the trials are composed of. Raises UserError where a file cannot be read."""
        try:
            files = {"voices": tree_hash(file_hashes(self.voices)), "held": ",".join(self.held_out_speakers)}
            for name in ("faces", "texts", "test_faces", "test_texts"):
                path: Path | None = getattr(self, name)
                files[name] = "" if path is None else file_hash(path)
        except OSError as e:
            raise UserError(
                f"{e.filename} cannot be read ({reason(e)})", way_out="give files and folders that are there"
            ) from e
        return hashlib.sha256(tree_hash(files).encode()).hexdigest()


def load_material(
    files: MaterialFiles,
    detector: FaceDetector,
    kept_in: Path,
    on_picture: Callable[[], None] = lambda: None,
) -> list[Material]:
    """The material of each training part, of validation, and, where there is some held out, of the test trials.

    What the detector found is kept in the folder `kept_in`.

    Pictures whose near-duplicate is held out are left out of training. Raises UserError where files are absent, of
    another form, or hold too little.
    """
    sentences = _read_sentences(files.voices)
    speakers = {s.speaker for s in sentences}
    unknown = set(files.held_out_speakers) - speakers
    if unknown:
        raise UserError(
            f"{files.voices} has no speaker {min(unknown)}: there are {', '.join(sorted(speakers))}"
        )
    held = [s for s in sentences if s.speaker in files.held_out_speakers]
    kept = [s for s in sentences if s.speaker not in files.held_out_speakers]

    def read_pictures(path: Path) -> Pictures:
        read = ferplus.read_pictures(path)
        return place_faces(read, detect_faces(read.images, detector, kept_in, on_picture))

    pictures = read_pictures(files.faces)
    test: list[Material] = []
    if files.test_faces is not None:
        unseen = read_pictures(files.test_faces)
        pictures = pictures.take(np.flatnonzero(~np.isin(pictures.hashes, unseen.hashes)))
        texts = _read_comments(files.test_texts or files.texts)
        test.append(Material(unseen, tuple(held or kept), tuple(texts)))
    try:
        parts = split_material(pictures, kept, _read_comments(files.texts), TRAINING_PARTS + 1)
    except ValueError as e:
        raise UserError(f"there is too little to compose of ({e})", way_out="give more material") from e
    return [*parts, *test]


def place_faces(pictures: ferplus.Pictures, found: DetectedFaces) -> Pictures:
    """Pictures with where the live path frames each."""
    return Pictures(
        pictures.images,
        pictures.valence_arousal.astype(np.float32),
        tuple(Square(*row) for row in found.squares.tolist()),
        found.landmarks,
        ferplus.difference_hashes(pictures.images),
    )


def _read_sentences(folder: Path) -> list[Sentence]:
    recordings = emodb.read_recordings(folder)
    places = emodb.place_recordings(recordings).astype(np.float32)
    return [Sentence(r.speaker, read_sound(r.path), places[i]) for i, r in enumerate(recordings)]


def _read_comments(path: Path) -> list[Comment]:
    read = goemotions.read_comments(path)
    places = read.valence_arousal.astype(np.float32)
    words = [spoken_words(text) for text in read.texts]
    return [
        Comment(said, places[i]) for i, said in enumerate(words) if _FEWEST_WORDS <= len(said) <= _MOST_WORDS
    ]
