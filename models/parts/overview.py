"""Every pretrained part with what this machine has of it: what `models-list` prints and scripts ask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.errors import UserError
from models.parts.registry import PARTS, find_part, install_command

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class PartState:
    """A pretrained part and how it stands here.

    `megabytes` is the rough size of the download. `path` is its file or folder and `sha256` its hash, both None where
    it is not installed. `trouble` says in one line why what is there is refused, and is empty otherwise. `install`
    is the command that installs it, then again too; empty where it comes with the package.
    """

    name: str
    purpose: str
    licence: str
    megabytes: int
    path: Path | None
    sha256: str | None
    trouble: str
    install: str

    @property
    def installed(self) -> bool:
        """Whether it is there, and sound."""
        return self.path is not None


def list_parts() -> tuple[PartState, ...]:
    """All registered parts in the registry's order. Those that are installed are read and checked by their hashes."""
    return tuple(_state_of(name) for name in PARTS)


def _state_of(name: str) -> PartState:
    part = PARTS[name]
    found, trouble = None, ""
    try:
        found = find_part(part)
    except UserError as e:
        trouble = e.problem
    return PartState(
        name=part.name,
        purpose=part.purpose,
        licence=part.licence,
        megabytes=part.megabytes,
        path=None if found is None else found.path,
        sha256=None if found is None else found.sha256,
        trouble=trouble,
        install="" if part.shipped else install_command(part.name),
    )
