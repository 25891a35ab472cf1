"""TensorRT through torch-tensorrt: one engine per part and shape, float16 or float32, kept in the cache.

Written to torch-tensorrt's documented interface (`torch_tensorrt.dynamo`): it has not yet run on hardware.
An exported program becomes one serialised engine; the engine's bytes are what is cached, checked by hash,
under the module's content, the shapes, the device and every version involved.
"""

from __future__ import annotations

import copy
import json
import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn

from models.accelerate.backend import (
    Backend,
    BuildContext,
    Runner,
    Unavailable,
    as_tuple,
    check_shapes,
    first_line,
)
from models.accelerate.backends.compiled import DTYPES, Cast
from models.accelerate.cache import Facts, module_hash
from models.accelerate.hardware import device_name, has_cuda, has_package, versions

if TYPE_CHECKING:
    from pathlib import Path

ENGINE: Final = "engine.trt"
BINDINGS: Final = "bindings.json"
DEVICE: Final = "cuda"
MISSING: Final = "torch-tensorrt is not installed (pip install 'affectstream[tensorrt]')"


class TensorrtRunner:
    """An engine in the PyTorch module that torch-tensorrt wraps it in."""

    def __init__(self, engine: nn.Module, shapes: list[tuple[int, ...]]) -> None:
        self._engine = engine
        self._shapes = shapes

    @torch.inference_mode()
    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The engine's outputs, float32 on the CPU."""
        check_shapes(inputs, self._shapes)
        found = as_tuple(self._engine(*(x.to(DEVICE) for x in inputs)))
        return tuple(y.to("cpu", torch.float32) for y in found)


def build(module: nn.Module, example: tuple[Tensor, ...], backend: Backend, context: BuildContext) -> Runner:
    """An engine for inputs of the example's shapes, from the cache or built. Raises Unavailable."""
    if not has_cuda():
        raise Unavailable("there is no NVIDIA GPU that PyTorch can use")
    if not has_package("torch_tensorrt"):
        raise Unavailable(MISSING)
    try:
        library = import_module("torch_tensorrt")
        return _load_or_build(library, module, example, backend, context)
    except (
        Exception
    ) as e:  # the library, CUDA and a stub package that fetches at import fail each in their way
        raise Unavailable(f"tensorrt cannot take it: {first_line(e)}") from e


def _load_or_build(
    library: Any, module: nn.Module, example: tuple[Tensor, ...], backend: Backend, context: BuildContext
) -> Runner:
    facts = _cache_facts(module, example, backend)
    folder = None if context.cache is None else context.cache.find(facts)
    if folder is not None:
        engine = (folder / ENGINE).read_bytes()
        bindings = json.loads((folder / BINDINGS).read_text(encoding="utf-8"))
    else:
        context.progress(f"building the TensorRT engine of {type(module).__name__} ({backend.precision})")
        program = _export(module, example, backend)
        engine = bytes(
            library.dynamo.convert_exported_program_to_serialized_trt_engine(
                program, arg_inputs=[x.to(DEVICE) for x in example]
            )
        )
        # The library names an engine's inputs as the program does, and numbers its outputs.
        bindings = {
            "inputs": list(program.graph_signature.user_inputs),
            "outputs": [f"output{i}" for i in range(len(program.graph_signature.user_outputs))],
        }
        if context.cache is not None:
            context.cache.keep(facts, lambda staged: _write_engine(staged, engine, bindings))
    wrapped = library.dynamo.runtime.TorchTensorRTModule(
        engine,
        input_binding_names=bindings["inputs"],
        output_binding_names=bindings["outputs"],
        name=type(module).__name__,
    )
    return TensorrtRunner(wrapped, [tuple(x.shape) for x in example])


def _export(module: nn.Module, example: tuple[Tensor, ...], backend: Backend) -> torch.export.ExportedProgram:
    on_device = copy.deepcopy(module).to(DEVICE)
    cast = Cast(on_device, DTYPES[backend.precision]).eval()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        return torch.export.export(cast, tuple(x.to(DEVICE) for x in example))


def _cache_facts(module: nn.Module, example: tuple[Tensor, ...], backend: Backend) -> Facts:
    return {
        "kind": "tensorrt engine",
        "content": module_hash(module),
        "inputs": [[str(x.dtype), list(x.shape)] for x in example],
        "precision": backend.precision,
        "device": device_name(),
        "cuda": str(torch.version.cuda),
        "versions": versions("torch-tensorrt", "tensorrt", "torch"),
    }


def _write_engine(folder: Path, engine: bytes, bindings: dict[str, list[str]]) -> None:
    (folder / ENGINE).write_bytes(engine)
    (folder / BINDINGS).write_text(json.dumps(bindings), encoding="utf-8")
