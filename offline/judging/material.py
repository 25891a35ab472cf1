"""Labelled material of each kind, as items to show to a bundle and labels to hold its estimates to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from models.errors import UserError
from offline.judging.clips import find_clips
from offline.people.cremad import GIVEN, read_votes
from offline.people.emobank import read_ratings
from offline.people.emodb import place_recordings, read_recordings
from offline.people.ferplus import EXPRESSIONS, read_pictures
from offline.people.goemotions import read_comments
from offline.people.text_normalisation import spoken_words

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from offline.people.emotions import Floats

Kind = Literal["faces", "voices", "texts", "clips", "talking"]


@dataclass(frozen=True, eq=False)
class Material:
    """N items of one kind from `source`, as it was given; a sample of `available` where those are more.

    `items` are what the kind's estimating function takes; `labels` (N, 2), valence and arousal in [-1, 1], by what
    they come from, NaN where an item has none; `categories` are the items' emotions where they have any.
    """

    kind: Kind
    source: str
    names: tuple[str, ...]
    items: tuple[Any, ...]
    labels: Mapping[str, Floats]
    available: int
    categories: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def spread_sample(count: int, limit: int | None) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Rows of a sample of at most `limit` of `count`, evenly spread from the first on; all without a limit."""
    if limit is None or limit >= count:
        return np.arange(count)
    return np.arange(limit) * count // limit


def read_faces(path: Path, limit: int | None = None) -> Material:
    """FER+ pictures. Raises UserError as the reader does."""
    pictures = read_pictures(path)
    some = pictures.take(spread_sample(len(pictures), limit))
    return Material(
        kind="faces",
        source=str(path),
        names=tuple(str(number) for number in some.numbers),
        items=tuple(some.images),
        labels={"votes": some.valence_arousal},
        available=len(pictures),
        categories=tuple(EXPRESSIONS[i] for i in some.majority),
    )


def read_voices(folder: Path, limit: int | None = None, speakers: Collection[str] = ()) -> Material:
    """EmoDB's recordings, of all speakers or of some. Raises UserError as the reader does, and for an unknown one."""
    recordings = read_recordings(folder)
    known = {recording.speaker for recording in recordings}
    for speaker in speakers:
        if speaker not in known:
            raise UserError(f"{folder} has no speaker {speaker}: there are {', '.join(sorted(known))}")
    recordings = tuple(r for r in recordings if not speakers or r.speaker in speakers)
    some = tuple(recordings[i] for i in spread_sample(len(recordings), limit))
    return Material(
        kind="voices",
        source=str(folder),
        names=tuple(recording.name for recording in some),
        items=tuple(recording.path for recording in some),
        labels={"played emotion": place_recordings(some)},
        available=len(recordings),
        notes=(f"speakers {', '.join(sorted(speakers))} alone",) if speakers else (),
        categories=tuple(recording.emotion for recording in some),
    )


def read_texts(path: Path, limit: int | None = None) -> Material:
    """EmoBank's sentences (`.csv`) or GoEmotions' comments (`.tsv`), as words.

    Raises UserError for another suffix, and as the readers do.
    """
    categories: Sequence[str] = ()
    if path.suffix.lower() == ".csv":
        ratings = read_ratings(path)
        texts, labels, by = ratings.texts, ratings.valence_arousal, "ratings"
    elif path.suffix.lower() == ".tsv":
        comments = read_comments(path)
        texts, labels, by = comments.texts, comments.valence_arousal, "labels"
        categories = comments.first_emotions
    else:
        raise UserError(f"{path} is neither EmoBank's .csv nor GoEmotions' .tsv", way_out="give one of these")
    rows = spread_sample(len(texts), limit)
    return Material(
        kind="texts",
        source=str(path),
        names=tuple(f"{path.stem}-{row}" for row in rows),
        items=tuple(spoken_words(texts[row]) for row in rows),
        labels={by: labels[rows]},
        available=len(texts),
        categories=tuple(categories[row] for row in rows) if categories else (),
    )


def read_clips(folder: Path, votes: Path, limit: int | None = None) -> Material:
    """Recordings that people voted on, by name.

    Raises UserError as the readers do, and where nobody voted on any of them.
    """
    voted = {clip.clip: clip for clip in read_votes(votes)}
    clips = [path for path in find_clips((folder,)) if path.stem in voted]
    if not clips:
        raise UserError(
            f"{votes} has votes on none of the recordings in {folder}, but on {next(iter(voted))}, say",
            way_out="give the folder of the recordings that it has votes on, named as there",
        )
    some = [clips[i] for i in spread_sample(len(clips), limit)]
    nobody = np.full(2, np.nan)
    labels = {
        given: np.array([voted[path.stem].valence_arousal.get(given, nobody) for path in some])
        for given in GIVEN.values()
    }
    absent = len(voted.keys() - {path.stem for path in clips})
    return Material(
        kind="clips",
        source=str(folder),
        names=tuple(path.stem for path in some),
        items=tuple(some),
        labels={by: values for by, values in labels.items() if not np.isnan(values).all()},
        available=len(clips),
        notes=(f"{absent} of the clips in {votes} are not in {folder}",) if absent else (),
    )


def read_talking(places: Sequence[Path], limit: int | None = None) -> Material:
    """Recordings of people who talk without showing an emotion: nothing to score, but they should come out near zero.

    Raises UserError as `find_clips`.
    """
    clips = find_clips(tuple(places))
    some = [clips[i] for i in spread_sample(len(clips), limit)]
    return Material(
        kind="talking",
        source=", ".join(map(str, places)),
        names=tuple(path.stem for path in some),
        items=tuple(some),
        labels={},
        available=len(clips),
    )
