"""Parts in a folder that was filled on another machine: each found by its name, or else by its hash."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from models.errors import UserError
from models.files import file_hash
from models.parts.registry import models_folder, recorded_hash

if TYPE_CHECKING:
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
    at an earlier pull. Raises UserError where `folder` cannot be read or holds too much to be a folder of parts.
    """
    entries = _entries(folder)
    names = {name.casefold() for name in published_names(part)}
    for entry in entries:
        if entry.name.casefold() in names and (part.kind != "folder" or entry.is_dir() or part.nested):
            return entry
    wanted = part.sha256 or recorded_hash(part, models_folder() / part.name)
    if part.kind != "file" or wanted is None:
        return None
    most_bytes = (4 * part.megabytes + 1) * 10**6
    files = (entry for entry in entries if entry.is_file() and entry.stat().st_size <= most_bytes)
    return next((file for file in files if file_hash(file) == wanted), None)


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
        raise UserError(
            f"{folder} cannot be read ({error.strerror or error})", way_out="give a folder that can be"
        ) from error
    return sorted(found, key=lambda path: (len(path.parts), path))
