"""EmoBank: sentences that people rated in valence and arousal (Buechel and Hahn 2017)."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from models.errors import UserError
from offline.files import reason

if TYPE_CHECKING:
    from pathlib import Path

    from offline.people.emotions import Floats

_COLUMNS: Final = ("V", "A", "text")
_WAY_OUT: Final = "give EmoBank's table, a CSV with columns V, A and text"


@dataclass(frozen=True, eq=False)
class Ratings:
    """Texts and the means of people's ratings: `ratings` (N, 2), valence and arousal from 1 to 5."""

    texts: tuple[str, ...]
    ratings: Floats

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def valence_arousal(self) -> Floats:
        """The ratings on our scale, (N, 2): 1 is -1, 3 is 0, 5 is 1."""
        return (self.ratings - 3.0) / 2.0


def read_ratings(path: Path) -> Ratings:
    """The sentences of a CSV with columns V, A (1 to 5) and text, in its order.

    Raises UserError where the file is absent, lacks a column, has a rating outside 1 to 5, or no sentence at all.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file)
            missing = [name for name in _COLUMNS if name not in (rows.fieldnames or ())]
            if missing:
                raise UserError(
                    f"{path} is not EmoBank's CSV: it has no column '{missing[0]}'", way_out=_WAY_OUT
                )
            found = [
                (
                    row["text"] or "",
                    _rating(path, rows.line_num, row["V"]),
                    _rating(path, rows.line_num, row["A"]),
                )
                for row in rows
            ]
    except FileNotFoundError:
        raise UserError(f"{path} does not exist", way_out=_WAY_OUT) from None
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise UserError(f"{path} cannot be read as CSV ({reason(e)})", way_out=_WAY_OUT) from e
    if not found:
        raise UserError(f"{path} holds no sentence", way_out=_WAY_OUT)
    return Ratings(tuple(text for text, _, _ in found), np.array([[v, a] for _, v, a in found]))


def _rating(path: Path, line: int, text: str | None) -> float:
    try:
        rating = float(text or "")
    except ValueError:
        rating = float("nan")
    if not 1.0 <= rating <= 5.0:
        raise UserError(
            f"{path} line {line}: a rating must be from 1 to 5, not '{text}'",
            way_out="mend the line, or take it out",
        )
    return rating
