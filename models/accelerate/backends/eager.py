"""The reference: the module as it is, float32."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.accelerate.backend import Runner, as_tuple


class EagerRunner:
    """PyTorch, operator by operator; any shape that the module takes."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    @torch.inference_mode()
    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The module's outputs."""
        return as_tuple(self._module(*inputs))


def run_eager(module: nn.Module) -> Runner:
    """A module that runs as it is."""
    return EagerRunner(module)
