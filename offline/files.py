"""Files that a kill at any moment leaves whole: text, JSON, arrays, tensors; written whole or not at all.

Nothing in them can execute: arrays are `.npy` without pickles, tensors are safetensors with JSON in their header.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import psutil
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from models.errors import UserError

Json = dict[str, Any]
"""What JSON can say."""

_STATE = "state"
_UNFINISHED: Final = re.compile(r"\..+\.(\d{1,9})\.part")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes `path`'s place when it is on disk whole, and not before.

    Raises UserError where it cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
        _sync_folder(path.parent)
    except OSError as e:
        raise UserError(f"{path} cannot be written: {e.strerror or e}") from e
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()


def clear_unfinished(folder: Path, *, deep: bool = False) -> None:
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


def read_json(path: Path) -> Json:
    """Read a JSON object. Raises UserError where the file is absent or is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except (OSError, ValueError, RecursionError) as e:
        raise UserError(f"{path} cannot be read: {e}") from e
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged: it holds no JSON object")
    return content


def save_array(path: Path, array: np.ndarray[Any, Any]) -> None:
    """Write a `.npy`, whole or not at all."""
    with replacing(path) as file:
        np.save(file, array, allow_pickle=False)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write tensors, and `state` as JSON in their file's header, whole or not at all."""
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    with replacing(path) as file:
        file.write(save(plain, {_STATE: json.dumps(state, allow_nan=False)}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], Json]:
    """Read what `save_tensors` wrote. Raises UserError where the file is absent, damaged, or holds other things."""
    if not path.is_file():
        raise UserError(f"{path} does not exist or is not a file")
    try:
        with safe_open(path, framework="pt") as file:
            state = json.loads((file.metadata() or {})[_STATE])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError, RecursionError) as e:
        raise UserError(f"{path} is damaged or is no checkpoint of ours: {_one_line(e)}") from e
    if not isinstance(state, dict):
        raise UserError(f"{path} is damaged or is no checkpoint of ours")
    return tensors, state


def _sync_folder(folder: Path) -> None:
    # A rename is only on disk when its folder is; platforms that cannot open folders sync by themselves.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
