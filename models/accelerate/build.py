"""From a module and its example input to a callable: the one place that knows every back-end's builder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from torch import Tensor, nn

from models.accelerate.backend import Backend, BackendName, BuildContext, Runner
from models.accelerate.backends import compiled, openvino, tensorrt
from models.accelerate.backends.eager import run_eager

_Build = Callable[[nn.Module, tuple[Tensor, ...], Backend, BuildContext], Runner]

_BUILDERS: Final[dict[BackendName, _Build]] = {
    "compile": compiled.build_compiled,
    "cuda": compiled.build_cuda,
    "openvino": openvino.build,
    "tensorrt": tensorrt.build,
}


def accelerate(
    module: nn.Module, example: tuple[Tensor, ...], backend: Backend, context: BuildContext | None = None
) -> Runner:
    """A module in eval mode as a callable for inputs of exactly the example's shapes.

    It computes what the module computes, at the back-end's precision; whether closely enough is for
    `models.accelerate.parity` to say. Raises Unavailable where the back-end cannot take it here.
    """
    if backend.name == "eager":
        return run_eager(module)
    return _BUILDERS[backend.name](module.eval(), example, backend, context or BuildContext())
