"""Parts in a folder that was filled on another machine: each found by its name, or else by its hash."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from models.errors import UserError
from models.files import file_hash
from models.parts.registry import models_folder, recorded_hash

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from models.parts.registry import PretrainedPart

MOST_FILES: Final = 2_000
"""Looked at in a folder: one with more is not a folder of parts."""


def published_names(part: PretrainedPart) -> set[str]:
    """What a part's file or folder may be called: its own name, and those under which it is published."""
    names = {part.name}
    for download in part.downloads:
        path = PurePosixPath(urlsplit(download.url).path)
        if part.kind == "folder":
            # .../OWNER/REPOSITORY/resolve/main/FILE: a clone's folder has the repository's name.
            names |= {path.parts[at - 1] for at, name in enumerate(path.parts) if at and name == "resolve"}
        else:
            names |= {path.name, download.name}
    return names


def find_in_folder(part: PretrainedPart, folder: Path) -> Path | None:
    """A part's file or folder somewhere in `folder`, or None.

    One of its names comes first; then, for parts of one file, any file of the hash that is published or was recorded
    at an earlier pull. Raises UserError where `folder` holds too much to be a folder of parts, and where it, or what
    may be the part in it, cannot be read.
    """
    entries = _entries(folder)
    return _find_by_name(part, entries) or _find_by_hash(part, entries)


def is_folder(path: Path) -> bool:
    """Whether it is a folder, and not a file or nothing. Raises UserError where one may not look."""
    try:
        return path.is_dir()
    except OSError as error:
        raise unreadable(path, error) from error


def require_in_folder(part: PretrainedPart, folder: Path) -> Path:
    """As `find_in_folder`. Raises UserError, naming what to fetch and from where, where it is not there."""
    found = find_in_folder(part, folder)
    if found is None:
        addresses = ", ".join(download.url for download in part.downloads)
        into = "" if part.kind != "folder" else f" into a folder {part.name}"
        raise UserError(
            f"{folder} has no {part.name}", way_out=f"fetch {addresses}{into} elsewhere and put it there"
        )
    return found


def _find_by_name(part: PretrainedPart, entries: Sequence[Path]) -> Path | None:
    names = {name.casefold() for name in published_names(part)}
    for entry in entries:
        if entry.name.casefold() in names:
            try:
                if part.kind != "folder" or part.nested or entry.is_dir():
                    return entry
            except OSError as error:
                raise unreadable(entry, error) from error
    return None


def _find_by_hash(part: PretrainedPart, entries: Sequence[Path]) -> Path | None:
    """A file that cannot be read is in nobody's way where another is the part; else it might have been it."""
    wanted = part.sha256 or recorded_hash(part, models_folder() / part.name)
    if part.kind != "file" or wanted is None:
        return None
    most_bytes = (4 * part.megabytes + 1) * 10**6
    refused: UserError | None = None
    for entry in entries:
        try:
            if entry.is_file() and entry.stat().st_size <= most_bytes and file_hash(entry) == wanted:
                return entry
        except OSError as error:
            refused = refused or unreadable(entry, error)
    if refused is not None:
        raise refused
    return None


def unreadable(path: Path, error: OSError) -> UserError:
    """What is said of a file or folder, given to install from, that this user may not read."""
    return UserError(
        f"{path} cannot be read ({error.strerror or error})",
        way_out="get leave to read it, or give another folder",
    )


def _entries(folder: Path) -> list[Path]:
    """Everything in a folder, the shallowest first."""
    found: list[Path] = []
    try:
        for path in folder.rglob("*"):
            found.append(path)
            if len(found) > MOST_FILES:
                raise UserError(
                    f"{folder} holds more than {MOST_FILES} files",
                    way_out="give the folder with the parts alone",
                )
    except OSError as error:
        raise unreadable(folder, error) from error
    return sorted(found, key=lambda path: (len(path.parts), path))
