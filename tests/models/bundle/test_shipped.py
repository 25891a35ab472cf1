"""Bundles by their names and by their folders."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from models.bundle.shipped import resolve_bundle, shipped_bundles
from models.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_shipped_bundle_by_its_name() -> None:
    assert "demo" in shipped_bundles()
    for name in shipped_bundles():
        assert resolve_bundle(name).name == name
        assert (resolve_bundle(name) / "bundle.json").is_file()


def test_anything_else_is_a_path(folder: Path) -> None:
    assert resolve_bundle(folder) == folder
    assert resolve_bundle(str(folder)) == folder


def test_what_is_neither_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(UserError, match=r"no bundle 'demonstration'") as refused:
        resolve_bundle("demonstration")
    assert str(refused.value).endswith(f"({', '.join(shipped_bundles())})")
