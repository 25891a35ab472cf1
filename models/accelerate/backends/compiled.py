"""PyTorch's own compiler: on the CPU, and on CUDA in float16 or float32 with the whole call as one CUDA graph."""

from __future__ import annotations

import copy
from inspect import signature
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn

from models.accelerate.backend import (
    Backend,
    BuildContext,
    Precision,
    Runner,
    Unavailable,
    as_tuple,
    check_shapes,
    first_line,
)
from models.accelerate.hardware import has_cuda

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

DTYPES: Final[dict[Precision, torch.dtype]] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}

_WARM_UPS: Final = 3

# Without it all runners together have the 8 recompilations that Dynamo allows one function.
_OWN_CACHE: Final[dict[str, Any]] = (
    {"isolate_recompiles": True} if "isolate_recompiles" in signature(torch.compile).parameters else {}
)


class Cast(nn.Module):
    """A module at a lower precision: floating inputs are cast to it, floating outputs back to float32."""

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.inner = module if dtype == torch.float32 else copy.deepcopy(module).to(dtype)

    def extra_repr(self) -> str:
        """The type, for the module's content hash."""
        return str(self.dtype)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Float32 in, float32 out; integers and masks as they are."""
        cast = (x.to(self.dtype) if x.is_floating_point() else x for x in inputs)
        return tuple(y.float() if y.is_floating_point() else y for y in as_tuple(self.inner(*cast)))


class CompiledRunner:
    """torch.compile on the CPU, for one set of shapes.

    Whatever mode the caller is in, it runs in inference mode on inference tensors: code compiled for one mode, or
    one kind of tensor, would be compiled again for the other, in the middle of serving.
    """

    def __init__(self, function: Callable[..., Any], shapes: list[tuple[int, ...]]) -> None:
        self._function = function
        self._shapes = shapes

    @torch.inference_mode()
    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The module's outputs."""
        check_shapes(inputs, self._shapes)
        return as_tuple(self._function(*(x if x.is_inference() else x.clone() for x in inputs)))


class CudaGraphRunner:
    """One captured CUDA graph with inputs and outputs of its own, on a stream of its own.

    Replaying a graph is bound to no thread, which torch.compile's own graph trees are.
    """

    def __init__(self, function: Callable[..., Any], example: tuple[Tensor, ...]) -> None:
        self._shapes = [tuple(x.shape) for x in example]
        self._inputs = [x.cuda() for x in example]
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._graph = torch.cuda.CUDAGraph()
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.no_grad(), torch.cuda.stream(self._stream):
            for _ in range(_WARM_UPS):
                function(*self._inputs)
        self._stream.synchronize()
        with torch.no_grad(), torch.cuda.graph(self._graph, stream=self._stream):
            self._outputs = as_tuple(function(*self._inputs))

    def start(self, *inputs: Tensor) -> Callable[[], tuple[Tensor, ...]]:
        """Begin, and return what waits for the outputs: several runners started so run side by side."""
        check_shapes(inputs, self._shapes)
        with torch.cuda.stream(self._stream):
            for own, given in zip(self._inputs, inputs, strict=True):
                own.copy_(given, non_blocking=True)
            self._graph.replay()
            found = tuple(y.to("cpu", non_blocking=True) for y in self._outputs)
        return lambda: self._wait(found)

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The module's outputs, on the CPU."""
        return self.start(*inputs)()

    def _wait(self, found: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        self._stream.synchronize()
        return found


def build_compiled(
    module: nn.Module, example: tuple[Tensor, ...], backend: Backend, context: BuildContext
) -> Runner:
    """torch.compile on the CPU; the first call compiles (10 to 30 s for a large module). Raises Unavailable."""
    context.progress(f"compiling at {backend.precision}")
    try:
        runner = CompiledRunner(_compile(module, backend), [tuple(x.shape) for x in example])
        with _no_silent_eager():
            runner(*example)
    except Exception as e:  # Dynamo's and Inductor's errors, a missing C++ compiler among them
        raise Unavailable(f"torch.compile cannot take it: {first_line(e)}") from e
    return runner


def build_cuda(
    module: nn.Module, example: tuple[Tensor, ...], backend: Backend, context: BuildContext
) -> Runner:
    """torch.compile on CUDA, captured as one CUDA graph. Raises Unavailable."""
    if not has_cuda():
        raise Unavailable("there is no NVIDIA GPU that PyTorch can use")
    context.progress(f"compiling for CUDA at {backend.precision}")
    try:
        function = _compile(copy.deepcopy(module).cuda(), backend)
        with _no_silent_eager():
            return CudaGraphRunner(function, example)
    except Exception as e:  # Dynamo's, Inductor's, Triton's and CUDA's errors have no common base
        raise Unavailable(f"CUDA cannot take it: {first_line(e)}") from e


def _compile(module: nn.Module, backend: Backend) -> Callable[..., Any]:
    return torch.compile(Cast(module, DTYPES[backend.precision]).eval(), dynamic=False, **_OWN_CACHE)


def _no_silent_eager() -> AbstractContextManager[None]:
    """At its limit of recompilations Dynamo runs a module eagerly and only logs it: here it raises."""
    from torch._dynamo import config  # a second's import, which other back-ends need not wait for

    return config.patch(fail_on_recompile_limit_hit=True)  # type: ignore[no-any-return]
