"""Aff-Wild2's label files: a header `valence,arousal`, then a row for each video frame.

The data set marks frames that are not annotated with -5. A row with either value at -5 is taken for such a frame:
training masks whole frames, so half a label is none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from models.errors import UserError
from models.spec import TARGETS

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

HEADER: Final = ",".join(TARGETS)
NOT_ANNOTATED: Final = -5.0
_WRITE_SO: Final = "write valence,arousal in [-1, 1], or -5,-5 where nothing is annotated"


def read_labels(path: Path) -> NDArray[np.float64]:
    """The labels of a file, as `parse_labels` gives them. Raises UserError where it cannot be read, or parsed."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"{path} cannot be read: {e}; give a label file, as text") from e
    return parse_labels(text, str(path))


def parse_labels(text: str, file: str) -> NDArray[np.float64]:
    """Valence and arousal of each frame: (N, 2) in [-1, 1], N at least 1; both NaN where a frame is not annotated.

    `file` is what messages call the text. Raises UserError, with the line's number, for what is no such text.
    """
    lines = text.splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines or lines[0].replace(" ", "").lower() != HEADER:
        raise UserError(f"{file} is no label file: its first line must be '{HEADER}'")
    if len(lines) == 1:
        raise UserError(f"{file} has no rows: give one line for each frame")
    labels = np.empty((len(lines) - 1, 2))
    for row, line in enumerate(lines[1:]):
        try:
            valence, arousal = map(float, line.split(","))
        except ValueError:
            raise UserError(
                f"{file} line {row + 2} is no pair of numbers: '{line[:40]}'; {_WRITE_SO}"
            ) from None
        if NOT_ANNOTATED in (valence, arousal):
            labels[row] = np.nan
        elif abs(valence) <= 1 and abs(arousal) <= 1:
            labels[row] = valence, arousal
        else:
            raise UserError(f"{file} line {row + 2} is outside [-1, 1]: '{line[:40]}'; {_WRITE_SO}")
    return labels
