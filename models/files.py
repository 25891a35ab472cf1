"""Files and folders by their SHA-256, and a finished folder put in place."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex. Raises OSError where it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_hashes(folder: Path, *, leave_out: frozenset[str] = frozenset()) -> dict[str, str]:
    """SHA-256 of every file under a folder by its relative path with `/`, sorted by path.

    `leave_out` names files directly in the folder. Raises OSError where something cannot be read.
    """
    paths = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    return {name: file_hash(paths[name]) for name in sorted(paths) if name not in leave_out}


def tree_hash(files: Mapping[str, str]) -> str:
    """One SHA-256 for a folder: over its sorted (relative path, file's SHA-256) pairs."""
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0{files[name]}\n".encode())
    return digest.hexdigest()


def put_in_place(staged: Path, folder: Path, before: Path) -> None:
    """Rename a finished folder into place; what was there goes to `before`, and comes back if that fails."""
    if folder.exists():
        folder.rename(before)
    try:
        staged.rename(folder)
    except OSError:
        if before.exists():
            before.rename(folder)
        raise
