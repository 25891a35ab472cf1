"""CREMA-D: people's votes on acted clips, given the voice, the face, or both (Cao et al. 2014)."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from models.errors import UserError
from offline.files import reason
from offline.people.emotions import Floats, mean_placement

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_WAY_OUT: Final = "give CREMA-D's table of votes, a CSV with columns modality, clip and one for each emotion"

GIVEN: Final = {"voice": "voice", "face": "face", "audiovisual": "both"}
"""What people were given, as the file calls it and as we do."""

_EMOTIONS: Final = {
    "anger": "anger",
    "disgust": "disgust",
    "fear": "fear",
    "happy": "happiness",
    "neutral": "neutral",
    "sad": "sadness",
}
"""The file's columns of votes, and what they are in `offline.people.emotions`."""


@dataclass(frozen=True, eq=False)
class ClipVotes:
    """A clip's name without suffix, and the mean place of people's votes, (2,) each, by what they were given."""

    clip: str
    valence_arousal: Mapping[str, Floats]


def read_votes(path: Path) -> tuple[ClipVotes, ...]:
    """The clips of a CSV with columns modality (voice, face, audiovisual), clip, and a count of votes for each of
    anger, disgust, fear, happy, neutral and sad; by name.

    Raises UserError where the file is absent or of another form, or has no vote.
    """
    clips: dict[str, dict[str, Floats]] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file)
            columns = rows.fieldnames or ()
            missing = [name for name in ("modality", "clip", *_EMOTIONS) if name not in columns]
            if missing:
                raise UserError(
                    f"{path} is not a CSV of CREMA-D's votes: it has no column '{missing[0]}'",
                    way_out=_WAY_OUT,
                )
            for row in rows:
                given = GIVEN.get(row["modality"] or "")
                if given is None or not row["clip"]:
                    raise UserError(
                        f"{path} line {rows.line_num}: a row is of a named clip and of {', '.join(GIVEN)}",
                        way_out="mend the line, or take it out",
                    )
                votes = np.array([_count(path, rows.line_num, row[name]) for name in _EMOTIONS])
                if not votes.sum():
                    raise UserError(f"{path} line {rows.line_num}: nobody voted", way_out="take the line out")
                clips.setdefault(row["clip"], {})[given] = mean_placement(
                    votes[None], tuple(_EMOTIONS.values())
                )[0]
    except FileNotFoundError:
        raise UserError(f"{path} does not exist", way_out=_WAY_OUT) from None
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise UserError(f"{path} cannot be read as CSV ({reason(e)})", way_out=_WAY_OUT) from e
    if not clips:
        raise UserError(f"{path} holds no votes", way_out=_WAY_OUT)
    return tuple(ClipVotes(name, clips[name]) for name in sorted(clips))


def _count(path: Path, line: int, text: str | None) -> int:
    if text is None or not (text.isascii() and text.isdigit()):
        raise UserError(
            f"{path} line {line}: votes must be whole numbers, not '{text}'", way_out="mend the line"
        )
    return int(text)
