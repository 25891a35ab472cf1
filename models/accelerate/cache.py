"""What took long to build or to measure, kept on disk: by content, checked by hash, bounded, never executed.

An entry is a folder named by the SHA-256 of everything that it depends on (module content, shapes, device, versions,
back-end); inside are its files and `entry.json` with their hashes and those facts as readable text. An entry that is
damaged is removed and counts as absent. Losing the whole folder costs time only.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any, Final

import platformdirs
import torch
from torch import Tensor, nn

from models.files import file_hashes, put_in_place

ENTRY: Final = "entry.json"
MOST_BYTES: Final = 8 * 1024**3

BUILDING: Final = ".building-"
"""How the folders begin in which entries are written before they are put in place: a matter of seconds."""

ABANDONED_S: Final = 3600.0
"""Older ones were left by processes that were killed."""

Facts = Mapping[str, Any]
"""What an entry depends on, as JSON."""


def default_cache_folder() -> Path:
    """The folder of environment variable AFFECT_CACHE, else the user's cache folder."""
    given = os.environ.get("AFFECT_CACHE")
    root = (
        Path(given).expanduser() if given else platformdirs.user_cache_path("affectstream", appauthor=False)
    )
    return root / "accelerated"


def key_of(facts: Facts) -> str:
    """The name of the entry that depends on `facts`: their SHA-256."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def module_hash(module: nn.Module) -> str:
    """SHA-256 of what a module is: its structure as printed, and every parameter and buffer, persistent or not."""
    digest = hashlib.sha256(repr(module).encode())
    for name, tensor in chain(module.named_parameters(), module.named_buffers()):
        _hash_tensor(digest.update, name, tensor)
    return digest.hexdigest()


def tensors_hash(tensors: Iterable[Tensor]) -> str:
    """SHA-256 of tensors in a row."""
    digest = hashlib.sha256()
    for i, tensor in enumerate(tensors):
        _hash_tensor(digest.update, str(i), tensor)
    return digest.hexdigest()


def _hash_tensor(update: Callable[[bytes], object], name: str, tensor: Tensor) -> None:
    update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
    flat = tensor.detach().cpu().contiguous().flatten()
    if flat.numel() == 1:  # one element is contiguous with any stride, but a view as bytes needs stride 1
        flat = flat.clone(memory_format=torch.contiguous_format)
    update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")  # type: ignore[arg-type]


class ArtifactCache:
    """Entries in one folder, the least recently used removed beyond `most_bytes`.

    No error of the disk reaches the caller: what cannot be read is absent, what cannot be written is not
    kept. Several processes may use one folder.
    """

    def __init__(self, folder: Path | None = None, *, most_bytes: int = MOST_BYTES) -> None:
        self.folder = default_cache_folder() if folder is None else folder
        self._most_bytes = most_bytes

    def find(self, facts: Facts) -> Path | None:
        """The folder of a sound entry, or None. An unsound one is removed."""
        folder = self.folder / key_of(facts)
        try:
            entry = json.loads((folder / ENTRY).read_text(encoding="utf-8"))
            sound = entry["facts"] == json.loads(json.dumps(facts)) and entry["files"] == file_hashes(
                folder, leave_out=frozenset({ENTRY})
            )
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            sound = False
        if not sound:
            shutil.rmtree(folder, ignore_errors=True)
            return None
        with suppress(OSError):
            os.utime(folder)
        return folder

    def keep(self, facts: Facts, write: Callable[[Path], None]) -> Path | None:
        """Make an entry of the files that `write` puts into a folder; None where it cannot be written."""
        folder = self.folder / key_of(facts)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=BUILDING, dir=self.folder) as temporary:
                staged = Path(temporary) / "entry"
                staged.mkdir()
                write(staged)
                entry = {"facts": facts, "files": file_hashes(staged)}
                (staged / ENTRY).write_text(json.dumps(entry, indent=1), encoding="utf-8")
                put_in_place(staged, folder, Path(temporary) / "before")
        except OSError:
            return None
        with suppress(OSError):
            self._prune(folder)
        return folder

    def find_json(self, facts: Facts) -> Any:
        """The JSON value kept under `facts`, or None."""
        folder = self.find(facts)
        try:
            return None if folder is None else json.loads((folder / "value.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def keep_json(self, facts: Facts, value: Any) -> None:
        """Keep a JSON value under `facts`."""
        text = json.dumps(value)
        self.keep(facts, lambda folder: _write_text(folder / "value.json", text))

    def _prune(self, newest: Path) -> None:
        """Remove the least recently used entries beyond the bound, never the newest; and what processes that were
        killed left half made.
        """
        entries: list[tuple[float, int, Path]] = []
        for folder in self.folder.iterdir():
            with suppress(OSError):  # another process removes entries too
                used_at = folder.stat().st_mtime
                if folder.name.startswith(BUILDING):
                    if time.time() - used_at > ABANDONED_S:
                        shutil.rmtree(folder, ignore_errors=True)
                elif folder != newest:
                    entries.append((used_at, _size_of(folder), folder))
        total = _size_of(newest)
        for _, size, folder in sorted(entries, reverse=True):
            total += size
            if total > self._most_bytes:
                shutil.rmtree(folder, ignore_errors=True)


def _size_of(folder: Path) -> int:
    return sum(f.stat().st_size for f in folder.iterdir())


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
