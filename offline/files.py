"""Files and folders that a kill at any moment leaves whole: they are written beside their place, then renamed.

Nothing in the files can execute: arrays are `.npy` without pickles.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np
import psutil

from models.errors import UserError
from models.files import put_in_place

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Json = dict[str, Any]
"""A JSON object: names to whatever JSON can hold."""

_WRITABLE: Final = "make room there and see that it may be written to, or give another place"

UNFINISHED_FOLDER: Final = "-unfinished"

_UNFINISHED: Final = re.compile(r"\..+\.(\d{1,9})\.part")


def reason(error: Exception) -> str:
    """Why something failed, in one short line: what the system says, or else the error's own words."""
    said = getattr(error, "strerror", None) or str(error)
    return " ".join(said.split())[:200] or type(error).__name__


class DiskProblem(UserError):
    """The disk is full, or will not take or give a file: whatever else is to be written would fare no better."""

    @classmethod
    def of(cls, path: Path, error: OSError) -> DiskProblem:
        """The problem in one line."""
        return cls(f"{path} cannot be written ({reason(error)})", way_out=_WRITABLE)


@contextlib.contextmanager
def replacing_path(path: Path) -> Iterator[Path]:
    """A path to write a file at; the file takes `path`'s place when it is on disk whole, and not before.

    Raises DiskProblem where it cannot be written, and for any other OSError of the body.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield unfinished
        with unfinished.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)
        _sync_folder(path.parent)
    except OSError as e:
        raise DiskProblem.of(path, e) from e
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """As `replacing_path`, an open file."""
    with replacing_path(path) as unfinished, unfinished.open("wb") as file:
        yield file


@contextlib.contextmanager
def replacing_folder(folder: Path, *, beside: Path | None = None) -> Iterator[Path]:
    """A path to make a folder at, which takes `folder`'s place at the end, or is gone where the body raises.

    It lies in a folder in `beside` (`folder`'s parent if not given), on the same file system, whose name begins with
    a dot and ends with `UNFINISHED_FOLDER`, for what a kill leaves behind to be found. Raises OSError.
    """
    parent = beside or folder.parent
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        prefix=f".{folder.name}-", suffix=UNFINISHED_FOLDER, dir=parent, ignore_cleanup_errors=True
    ) as temporary:
        staged = Path(temporary) / "new"
        yield staged
        folder.parent.mkdir(parents=True, exist_ok=True)
        put_in_place(staged, folder, Path(temporary) / "before")


def remove_unfinished(folder: Path, *, deep: bool = False) -> None:
    """Remove what processes that were killed while they wrote left in a folder, and in all below it where `deep`.

    Files of this machine's living processes stay, this one's too; so does what cannot be removed.
    """
    # Nothing needs these files gone: a folder that cannot be read says so where it is used.
    with contextlib.suppress(OSError):
        for path in folder.rglob("*") if deep else folder.iterdir():
            written = _UNFINISHED.fullmatch(path.name)
            if written is not None and not psutil.pid_exists(int(written[1])):
                path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with replacing(path) as file:
        file.write(text.encode())


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON, whole or not at all; NaN is refused with ValueError."""
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_json(path: Path, *, way_out: str) -> Json:
    """Read a JSON object. Raises UserError, with what is to be done then, where the file is absent or is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist", way_out=way_out) from None
    except (OSError, ValueError, RecursionError) as e:
        raise UserError(f"{path} cannot be read ({reason(e)})", way_out=way_out) from e
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged, since it holds no JSON object", way_out=way_out)
    return content


def save_array(path: Path, array: np.ndarray[Any, Any]) -> None:
    """Write a `.npy`, whole or not at all."""
    with replacing(path) as file:
        np.save(file, array, allow_pickle=False)


def _sync_folder(folder: Path) -> None:
    # A rename is only on disk when its folder is; platforms that cannot open folders sync by themselves.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
