"""What the offline tests share: a tiny store and a trunk for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.offline.stores import write_store, write_trunk

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
