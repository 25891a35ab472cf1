"""What each back-end says where it cannot be built on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from models.accelerate.backend import Backend, Unavailable
from models.accelerate.backends import openvino as openvino_module
from models.accelerate.build import accelerate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from tests.models.accelerate.small_module import Small


class TestAbsentPackages:
    @pytest.fixture(autouse=True)
    def _bare_machine(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        openvino_module._engine.cache_clear()
        for room in (openvino_module, "models.accelerate.backends.tensorrt"):
            target = room if isinstance(room, str) else room.__name__
            monkeypatch.setattr(f"{target}.has_package", lambda name: False)
        monkeypatch.setattr("models.accelerate.backends.tensorrt.has_cuda", lambda: False)
        monkeypatch.setattr("models.accelerate.backends.compiled.has_cuda", lambda: False)
        yield
        openvino_module._engine.cache_clear()

    @pytest.mark.parametrize(
        ("backend", "says"),
        [
            (Backend("openvino"), "openvino is not installed .pip install 'affectstream.openvino.'"),
            (Backend("openvino", "bfloat16"), "openvino is not installed"),
            (Backend("tensorrt", "float16"), "no NVIDIA GPU"),
            (Backend("cuda", "float16"), "no NVIDIA GPU"),
        ],
        ids=str,
    )
    def test_each_says_what_is_missing(self, module: Small, x: Tensor, backend: Backend, says: str) -> None:
        with pytest.raises(Unavailable, match=says):
            accelerate(module, (x,), backend)

    def test_tensorrt_with_a_gpu_names_the_extra(
        self, module: Small, x: Tensor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("models.accelerate.backends.tensorrt.has_cuda", lambda: True)
        with pytest.raises(Unavailable, match="torch-tensorrt is not installed"):
            accelerate(module, (x,), Backend("tensorrt", "float16"))
