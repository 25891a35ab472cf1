"""A small bundle to write cards of."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from models.bundle.load import load_bundle
from models.bundle.untrained import make_untrained_bundle
from models.text.small_bert import BertShape

if TYPE_CHECKING:
    from models.bundle.load import Bundle


@pytest.fixture(scope="package")
def people(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """An untrained bundle of the preset and by the name of the one for real people."""
    folder = tmp_path_factory.mktemp("bundles") / "people"
    make_untrained_bundle(
        folder, "practical", folds=2, name="people", text=BertShape(layers=1, head=16, inner=2)
    )
    return load_bundle(folder)


@pytest.fixture
def folder(people: Bundle, tmp_path: Path) -> Path:
    """A copy of its own."""
    return Path(shutil.copytree(people.folder, tmp_path / "people"))
