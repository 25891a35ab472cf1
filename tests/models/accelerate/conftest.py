"""Fixtures of the tests of acceleration: a small bundle, a cache, made-up back-ends, and a small module."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
import torch._dynamo
from torch import Tensor

from models.accelerate import candidates as candidates_module
from models.accelerate import select as select_module
from models.accelerate import steps as steps_module
from models.accelerate.backends.eager import run_eager
from models.accelerate.cache import ArtifactCache
from models.bundle.load import Bundle, load_bundle
from models.bundle.untrained import make_untrained_bundle
from tests.models.accelerate.serving import FakeBackends
from tests.models.accelerate.small_module import Small

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "two"
    make_untrained_bundle(folder, folds=2)
    return folder


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Bundle:
    return load_bundle(folder)


@pytest.fixture
def cache(tmp_path: Path) -> ArtifactCache:
    return ArtifactCache(tmp_path / "cache")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeBackends:
    fake = FakeBackends(
        errors={"float32": 0.0, "bfloat16": 1e-4, "int8": 1e-3},
        ms={"eager": 40.0, "float32": 20.0, "bfloat16": 8.0, "int8": 4.0},
    )
    monkeypatch.setattr(candidates_module, "accelerate", fake.accelerate)
    monkeypatch.setattr(candidates_module, "measure", fake.measure)
    monkeypatch.setattr(steps_module, "accelerate", lambda module, *given: run_eager(module))
    monkeypatch.setattr(select_module, "is_calm", lambda: True)
    monkeypatch.setattr(select_module, "has_cuda", lambda: False)
    monkeypatch.setattr(select_module, "has_package", lambda name: name == "openvino")
    monkeypatch.setattr(select_module, "_is_native", lambda backend, precision: True)
    return fake


@pytest.fixture
def module() -> Small:
    return Small().eval()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))
