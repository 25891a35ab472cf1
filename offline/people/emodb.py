"""EmoDB: ten German sentences, each played by actors in seven emotions (Burkhardt et al. 2005)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from models.errors import UserError
from offline.people.emotions import Floats, place_emotions

if TYPE_CHECKING:
    from pathlib import Path

EMOTIONS: Final = ("neutral", "happiness", "sadness", "anger", "disgust", "fear", "boredom")
"""What is played."""

_BY_LETTER: Final = dict(zip("NFTWEAL", EMOTIONS, strict=True))
_NAME: Final = re.compile(r"(\d\d)([a-z]\d\d)([NFTWEAL])([a-z])")
_SUFFIXES: Final = (".flac", ".wav")


@dataclass(frozen=True)
class Recording:
    """One sentence: its file, who speaks, which sentence it is, what is played, and which take."""

    path: Path
    speaker: str
    sentence: str
    emotion: str
    version: str

    @property
    def name(self) -> str:
        """The file's name without its suffix: SSTTTEv."""
        return self.path.stem


def read_recordings(folder: Path) -> tuple[Recording, ...]:
    """All recordings of a folder by name: `SSTTTEv.flac` or `.wav`, SS the speaker, TTT the sentence, E the emotion's
    German letter, v the take.

    Raises UserError where there is no such folder, no recording in it, one of another name, or one twice.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder: give one that holds EmoDB's recordings")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)
    if not paths:
        raise UserError(
            f"{folder} holds no recording of EmoDB: no {' or '.join(_SUFFIXES)} file",
            way_out="give the folder that they lie in, without folders between",
        )
    recordings = tuple(_recording(path) for path in paths)
    for before, after in pairwise(recordings):
        if before.name == after.name:
            raise UserError(
                f"{folder} holds {before.name} twice: {before.path.name} and {after.path.name}",
                way_out="take one of them out",
            )
    return recordings


def place_recordings(recordings: tuple[Recording, ...]) -> Floats:
    """Valence and arousal of what is played, (N, 2)."""
    return place_emotions([recording.emotion for recording in recordings])


def _recording(path: Path) -> Recording:
    name = _NAME.fullmatch(path.stem)
    if name is None:
        raise UserError(
            f"{path} is not named as EmoDB's recordings are: SSTTTEv, E one of {', '.join(_BY_LETTER)}",
            way_out="take it out, or give another folder",
        )
    speaker, sentence, letter, version = name.groups()
    return Recording(path, speaker, sentence, _BY_LETTER[letter], version)
