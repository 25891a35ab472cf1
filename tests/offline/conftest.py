"""What the offline tests share: a tiny store and a trunk for it, a bundle and a store of random features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from models.bundle.load import Bundle, load_bundle
from models.bundle.untrained import make_untrained_bundle
from offline.data.store import Store, bundle_recipe
from tests.offline.stores import write_store, write_trunk
from tests.offline.trial_stores import Made
from tests.offline.trial_stores import write_store as write_random_store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve short trials of six people, with the compact preset's widths."""
    return write_store(tmp_path_factory.mktemp("tiny") / "store", frames=33)


@pytest.fixture(scope="session")
def tiny_trunk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained foundation of the compact preset."""
    return write_trunk(tmp_path_factory.mktemp("tiny") / "trunk.safetensors")


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[..., Path]:
    """`write_store` into a folder of the test's own."""
    return lambda **sizes: write_store(tmp_path / "store", **sizes)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Three untrained folds."""
    folder = tmp_path_factory.mktemp("bundles") / "random"
    make_untrained_bundle(folder, folds=3, seed=5)
    return load_bundle(folder)


@pytest.fixture(scope="session")
def store(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Random trials of every partition, long and short, labelled in part, one of them without sound."""
    trials = [
        Made("long", frames=45),
        Made("part", frames=30, labelled=0.5),
        Made("short", frames=9),
        Made("silent", "train", frames=20, has_sound=False),
        Made("other", "train", frames=20),
        Made("unseen", "test", frames=20, labelled=0.0),
    ]
    return write_random_store(
        tmp_path_factory.mktemp("stores") / "store", bundle_recipe(bundle.manifest), trials
    )
