"""Packages of an extra: what lacks one says so in one line, with the command that installs it."""

from __future__ import annotations

from importlib.util import find_spec

from models.errors import UserError


def require_extra(extra: str, package: str, what_for: str) -> None:
    """Imports nothing. Raises UserError where the package that `what_for` (an option) needs is not installed."""
    if find_spec(package) is None:
        raise UserError(
            f"{what_for} needs the package {package}, which is not installed",
            way_out=f"pip install 'affectstream[{extra}]'",
        )
