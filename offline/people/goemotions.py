"""GoEmotions: Reddit comments by emotion (Demszky et al. 2020)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from models.errors import UserError
from offline.files import reason
from offline.people.emotions import EMOTIONS, Floats, mean_placement

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_WAY_OUT: Final = "give a table of GoEmotions (.tsv) that has its labels.txt beside it"

LABELS: Final = "labels.txt"

_NAMES: Final = (
    "james",
    "mary",
    "john",
    "david",
    "sarah",
    "michael",
    "anna",
    "robert",
    "emma",
    "peter",
    "laura",
    "daniel",
)
_RELIGIONS: Final = ("christian", "muslim", "jewish", "catholic", "buddhist", "hindu")
_PLACEHOLDER: Final = re.compile(r"\[(NAME|RELIGION)\]")


@dataclass(frozen=True, eq=False)
class Comments:
    """Texts and which emotions each shows: `labelled` (N, n) bool, a column for each of `emotions`, at least one set
    in each row.
    """

    texts: tuple[str, ...]
    emotions: tuple[str, ...]
    labelled: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def valence_arousal(self) -> Floats:
        """The mean place of a text's emotions, (N, 2) in [-1, 1]."""
        return mean_placement(self.labelled, self.emotions)

    @property
    def first_emotions(self) -> tuple[str, ...]:
        """Each text's first emotion, in the order of `emotions`."""
        return tuple(self.emotions[i] for i in self.labelled.argmax(axis=1))


def read_comments(path: Path, labels: Path | None = None) -> Comments:
    """The comments of a TSV whose lines are a text and its label numbers, comma separated (what follows is left out).

    `labels` names the emotions, one a line, by default `labels.txt` beside it. Where the data set hides a person's
    name or a religion, one is put in that depends on the line alone: nobody says a placeholder. Raises UserError
    where a file is absent or of another form, or an emotion is not in `offline.people.emotions`.
    """
    emotions = _read_emotions(labels or path.parent / LABELS)
    rows = [line for line in _read_lines(path) if line.strip()]
    if not rows:
        raise UserError(f"{path} holds no comment", way_out=_WAY_OUT)
    labelled = np.zeros((len(rows), len(emotions)), np.bool_)
    texts = []
    for i, row in enumerate(rows):
        text, *rest = row.split("\t")
        numbers = rest[0].split(",") if rest else []
        if not numbers or not all(n.isascii() and n.isdigit() and int(n) < len(emotions) for n in numbers):
            raise UserError(
                f"{path} line {i + 1} is not a text, a tab and label numbers from 0 to {len(emotions) - 1}",
                way_out="mend the line, or take it out",
            )
        texts.append(_with_names(text, i))
        labelled[i, [int(n) for n in numbers]] = True
    return Comments(tuple(texts), emotions, labelled)


def _read_emotions(path: Path) -> tuple[str, ...]:
    names = tuple(line.strip() for line in _read_lines(path) if line.strip())
    unknown = [name for name in names if name not in EMOTIONS]
    if unknown or not names or len(set(names)) < len(names):
        problem = f"it names '{unknown[0]}'" if unknown else "it names one twice" if names else "it is empty"
        raise UserError(
            f"{path} must name emotions that have a place, each once: {problem}",
            way_out="give GoEmotions' own; offline-judge --maps shows which have one",
        )
    return names


def _read_lines(path: Path) -> list[str]:
    try:
        # Only line feeds end a line here: comments hold other characters that `splitlines` takes for one.
        return path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise UserError(f"{path} does not exist", way_out=_WAY_OUT) from None
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"{path} cannot be read as text ({reason(e)})", way_out=_WAY_OUT) from e


def _with_names(text: str, line: int) -> str:
    values = {"NAME": _NAMES[line % len(_NAMES)], "RELIGION": _RELIGIONS[line % len(_RELIGIONS)]}
    return _PLACEHOLDER.sub(lambda match: values[match[1]], text)
