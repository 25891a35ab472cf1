"""Where bundles are: those that ship with the package by their names, all others by their folders."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from models.bundle.manifest import MANIFEST
from models.errors import UserError

BUNDLES: Final = Path(__file__).parent.parent / "assets" / "bundles"


def shipped_bundles() -> list[str]:
    """The names of the bundles that this installation brings along, sorted."""
    return sorted(path.parent.name for path in BUNDLES.glob(f"*/{MANIFEST}"))


def resolve_bundle(name_or_path: str | Path) -> Path:
    """The folder of a bundle: one shipped in the package by its name, anything else by its path.

    Raises UserError where there is no such bundle, naming the shipped ones.
    """
    text = str(name_or_path)
    shipped = shipped_bundles()
    if text in shipped:
        return BUNDLES / text
    path = Path(name_or_path).expanduser()
    if not path.is_dir():
        raise UserError(
            f"there is no bundle '{text}': give a folder, or a shipped one's name ({', '.join(shipped) or 'none'})"
        )
    return path
