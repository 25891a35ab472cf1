"""FER+: faces from the web that ten people labelled each (Barsoum et al. 2016), as an `.npz` of arrays."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from models.errors import UserError
from offline.people.emotions import Floats, mean_placement

if TYPE_CHECKING:
    from pathlib import Path

Images = NDArray[np.uint8]
Indices = NDArray[np.int64]

_WAY_OUT: Final = (
    "give an .npz with FER+'s pictures as images, uint8 (N, 48, 48), and its counts as votes, (N, 10)"
)

SIDE: Final = 48
EXPRESSIONS: Final = (
    "neutral",
    "happiness",
    "surprise",
    "sadness",
    "anger",
    "disgust",
    "fear",
    "contempt",
)
"""What the first columns of the votes are for; the last two are for "unknown" and "no face"."""

_COLUMNS: Final = len(EXPRESSIONS) + 2
_ARRAYS: Final = ("images", "votes", "numbers")


@dataclass(frozen=True, eq=False)
class Pictures:
    """Grey faces `images` (N, 48, 48) uint8, the share of each one's votes per expression, `shares` (N, 8) adding up
    to one, and `numbers` (N,), the data set's own.
    """

    images: Images
    shares: Floats
    numbers: Indices

    def __len__(self) -> int:
        return len(self.images)

    @property
    def valence_arousal(self) -> Floats:
        """The mean of what people voted, (N, 2) in [-1, 1]."""
        return mean_placement(self.shares, EXPRESSIONS)

    @property
    def majority(self) -> Indices:
        """The expression with the most votes (N,), as an index of `EXPRESSIONS`; the first of several."""
        found: Indices = self.shares.argmax(axis=1)
        return found

    def take(self, rows: Indices | NDArray[np.bool_]) -> Pictures:
        """Some of them."""
        return Pictures(self.images[rows], self.shares[rows], self.numbers[rows])


def read_pictures(path: Path) -> Pictures:
    """The pictures of which more than half the votes are for an expression.

    `path` holds `images` (N, 48, 48) uint8, `votes` (N, 10) and, where there are any, `numbers` (N,). Votes for
    "unknown" and "no face" count against a picture, and are then left out of its shares. Raises UserError where the
    file is absent, is of another form, or has no such picture.
    """
    images, votes, numbers = _read_arrays(path)
    expressions = votes[:, : len(EXPRESSIONS)].sum(axis=1)
    kept = np.flatnonzero(expressions > votes.sum(axis=1) / 2)
    if not len(kept):
        raise UserError(f"{path} has no picture of which most votes are for an expression", way_out=_WAY_OUT)
    shares = votes[kept, : len(EXPRESSIONS)] / expressions[kept, None]
    return Pictures(images[kept], shares, numbers[kept])


def difference_hashes(images: Images) -> NDArray[np.uint64]:
    """64 bits of each picture (N, H, W) as one number, (N,): whether each of 8 x 8 cells is brighter than the one to
    its right. Near-duplicates, of which FER+ has some, share it: keep those on one side of any split.
    """
    if not len(images):
        return np.zeros(0, np.uint64)
    small = np.stack([cv2.resize(image, (9, 8), interpolation=cv2.INTER_AREA) for image in images])
    bits = (small[:, :, :-1] > small[:, :, 1:]).reshape(len(images), 64)
    return np.packbits(bits, axis=1).view(">u8")[:, 0].astype(np.uint64)


def _read_arrays(path: Path) -> tuple[Images, Floats, Indices]:
    """Images, votes and numbers, checked for their form."""
    arrays = _load(path)
    images, votes = arrays["images"], arrays["votes"]
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (SIDE, SIDE):
        raise UserError(
            f"{path}: 'images' must be uint8 (N, {SIDE}, {SIDE}), not {images.dtype} {images.shape}",
            way_out=_WAY_OUT,
        )
    if votes.shape != (len(images), _COLUMNS):
        raise UserError(
            f"{path}: 'votes' must be (N, {_COLUMNS}) for {len(images)} images, not {votes.shape}",
            way_out=_WAY_OUT,
        )
    if not np.issubdtype(votes.dtype, np.number) or not np.isfinite(votes).all() or (votes < 0).any():
        raise UserError(f"{path}: 'votes' must be counts of zero or more", way_out=_WAY_OUT)
    numbers = arrays.get("numbers", np.arange(len(images)))
    if numbers.shape != (len(images),) or not np.issubdtype(numbers.dtype, np.integer):
        raise UserError(
            f"{path}: 'numbers' must be whole numbers (N,), not {numbers.dtype} {numbers.shape}",
            way_out=_WAY_OUT,
        )
    return images, votes.astype(np.float64), numbers.astype(np.int64)


def _load(path: Path) -> dict[str, NDArray[Any]]:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            raise UserError(
                f"{path} is not an .npz of FER+ pictures: it holds one array alone", way_out=_WAY_OUT
            )
        with loaded as file:
            arrays: dict[str, NDArray[Any]] = {name: file[name] for name in _ARRAYS if name in file.files}
    except FileNotFoundError:
        raise UserError(f"{path} does not exist", way_out=_WAY_OUT) from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as e:
        raise UserError(f"{path} is not an .npz of FER+ pictures, or is damaged", way_out=_WAY_OUT) from e
    missing = [name for name in ("images", "votes") if name not in arrays]
    if missing:
        raise UserError(f"{path} is not an .npz of FER+ pictures: it has no '{missing[0]}'", way_out=_WAY_OUT)
    return arrays
