"""The reference: a module as it is."""

from __future__ import annotations

import torch
import torch._dynamo
from torch import Tensor

from models.accelerate.backend import Backend
from models.accelerate.build import accelerate
from tests.models.accelerate.small_module import Small, expected


class TestEager:
    def test_it_is_the_module_whatever_the_shape(self, module: Small, x: Tensor) -> None:
        runner = accelerate(module, (x,), Backend("eager"))
        assert torch.equal(runner(x)[0], expected(module, x))
        assert runner(x[:1])[0].shape == (1, 6)
