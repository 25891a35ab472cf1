"""Arrays on disk: `.npy` files written row by row, and read without being loaded. No pickles either way."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from models.errors import UserError
from offline.files import DiskProblem

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import DTypeLike, NDArray


class RowWriter:
    """Writes a `.npy` of rows of one shape, without knowing beforehand how many there will be.

    The header is written again at the end: numpy leaves room in it for the first axis to grow.
    """

    def __init__(self, path: Path, row: tuple[int, ...], dtype: DTypeLike) -> None:
        """Opens `path`. Raises DiskProblem."""
        self.path = path
        self.rows = 0
        self._row = row
        self._dtype = np.dtype(dtype)
        self._last = np.zeros((1, *row), self._dtype)
        try:
            self._file = path.open("wb")
            self._write_header()
        except OSError as e:
            raise DiskProblem.of(path, e) from e
        self._body: Final = self._file.tell()

    def append(self, rows: NDArray[Any]) -> None:
        """Adds rows (n, *row). Raises ValueError for another shape, DiskProblem where there is no room."""
        if rows.shape[1:] != self._row:
            raise ValueError(f"rows of {self.path.name} have shape {self._row}, not {rows.shape[1:]}")
        content = np.ascontiguousarray(rows, self._dtype)
        try:
            self._file.write(content.data if content.size else b"")
        except OSError as e:
            raise DiskProblem.of(self.path, e) from e
        self.rows += len(rows)
        if len(rows):
            self._last = content[-1:].copy()

    def repeat_last(self, times: int) -> None:
        """Adds the last row again, `times` times; zeros where there is none."""
        self.append(np.repeat(self._last, times, axis=0))

    def close(self) -> None:
        """Completes the file. Raises DiskProblem."""
        try:
            with self._file:
                self._file.seek(0)
                self._write_header()
                assert self._file.tell() == self._body
        except OSError as e:
            raise DiskProblem.of(self.path, e) from e

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            # What a full disk did not take would be tried again.
            with contextlib.suppress(OSError):
                self._file.close()

    def _write_header(self) -> None:
        header = {
            "descr": np.lib.format.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": (self.rows, *self._row),
        }
        np.lib.format.write_array_header_1_0(self._file, header)


def write_rows(path: Path, rows: NDArray[Any]) -> None:
    """Writes a whole array. Raises DiskProblem."""
    with RowWriter(path, rows.shape[1:], rows.dtype) as writer:
        writer.append(rows)


def map_rows(
    path: Path, row: tuple[int | None, ...], dtype: DTypeLike, count: int | None = None
) -> NDArray[Any]:
    """The array in `path`, memory-mapped, read-only: (count, *row), None standing for any length.

    Raises UserError where it is missing, damaged, or of another type or shape.
    """
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"{path} is missing: remove its folder and run offline-preprocess again") from None
    except (OSError, ValueError, EOFError) as e:
        raise UserError(f"{path} is damaged: remove its folder and run offline-preprocess again") from e
    wanted = (count, *row)
    fits = found.ndim == len(wanted) and all(w in (None, n) for w, n in zip(wanted, found.shape, strict=True))
    if not fits or found.dtype != np.dtype(dtype):
        raise UserError(
            f"{path} is damaged: it holds {found.dtype} {found.shape}; remove its folder and run "
            "offline-preprocess again"
        )
    mapped: NDArray[Any] = found
    return mapped
