"""OpenVINO on the CPU: float32, bfloat16, and int8 calibrated with NNCF.

The converted model is kept in the cache as OpenVINO's own XML and binary file. OpenVINO and NNCF send usage
statistics over the network by default; here they are kept from it.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import warnings
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from models.accelerate.backend import (
    Backend,
    BuildContext,
    Precision,
    Runner,
    Unavailable,
    check_shapes,
    first_line,
)
from models.accelerate.cache import Facts, module_hash, tensors_hash
from models.accelerate.hardware import has_package, processor_name, versions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MODEL: Final = "model.xml"
_NOT_IN_INT8: Final = ("NormalizeL2", "ReduceL2", "ReduceSum", "Power", "Sqrt", "Divide")

# Counted up when int8 is calibrated in another way: models and choices in the cache are then made anew.
INT8_METHOD: Final = 3

MISSING: Final = "openvino is not installed (pip install 'affectstream[openvino]')"


class OpenvinoRunner:
    """A compiled model with one request, its inputs and outputs in one place: call it from one thread at a time."""

    def __init__(self, compiled: Any, shapes: list[tuple[int, ...]]) -> None:
        self._request = request = compiled.create_infer_request()
        self._shapes = shapes
        self._inputs = [
            _bind_tensor(port, request.set_input_tensor, i) for i, port in enumerate(compiled.inputs)
        ]
        self._outputs = [
            _bind_tensor(port, request.set_output_tensor, i) for i, port in enumerate(compiled.outputs)
        ]

    def start(self, *inputs: Tensor) -> Callable[[], tuple[Tensor, ...]]:
        """Begin in a thread of OpenVINO's, and return what waits, which must be called before the next one begins:
        several runners started so run side by side.
        """
        self._copy_inputs(inputs)
        self._request.start_async()
        return self._wait

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The model's outputs, float32, the caller's own."""
        self._copy_inputs(inputs)
        self._request.infer(share_outputs=True)
        return self._copy_outputs()

    def _copy_inputs(self, inputs: tuple[Tensor, ...]) -> None:
        check_shapes(inputs, self._shapes)
        for own, given in zip(self._inputs, inputs, strict=True):
            np.copyto(own, given.detach().numpy())

    def _wait(self) -> tuple[Tensor, ...]:
        self._request.wait()
        return self._copy_outputs()

    def _copy_outputs(self) -> tuple[Tensor, ...]:
        return tuple(torch.from_numpy(x.astype(np.float32)) for x in self._outputs)


def _bind_tensor(port: Any, set_tensor: Callable[[int, Any], None], index: int) -> np.ndarray[Any, Any]:
    """A tensor for an input or an output of fixed shape, as the array that it is in."""
    tensor = _import_without_telemetry("openvino").Tensor(port.element_type, port.shape)
    set_tensor(index, tensor)
    array: np.ndarray[Any, Any] = tensor.data
    return array


def build(module: nn.Module, example: tuple[Tensor, ...], backend: Backend, context: BuildContext) -> Runner:
    """A runner for inputs of the example's shapes. Raises Unavailable."""
    engine = _engine()
    if backend.precision == "bfloat16" and not has_bfloat16():
        raise Unavailable("this processor has no bfloat16 arithmetic")
    facts = _cache_facts(module, example, backend.precision, context)
    folder = None if context.cache is None else context.cache.find(facts)
    try:
        if folder is None:
            model = _convert(module, example, backend.precision, context)
            if context.cache is not None:
                folder = context.cache.keep(
                    facts, lambda staged: _save_model(model, staged, backend.precision)
                )
        if folder is not None:
            # Saving changes the last bits: the first start and the later ones must run the same model.
            model = engine.read_model(folder / MODEL)
        compiled = engine.compile_model(model, "CPU", _options(backend.precision, context.threads))
        return OpenvinoRunner(compiled, [tuple(x.shape) for x in example])
    except Unavailable:
        raise
    except Exception as e:  # what OpenVINO raises has no common base
        raise Unavailable(f"openvino cannot take it: {first_line(e)}") from e


def has_bfloat16() -> bool:
    """Whether the processor computes in bfloat16 itself, as OpenVINO sees it; False without OpenVINO."""
    try:
        capabilities = _engine().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    except (Unavailable, RuntimeError):
        return False
    return "BF16" in capabilities


def has_vnni() -> bool:
    """Whether the processor sums products of eight bits in thirty-two; False where PyTorch cannot tell."""
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in ("avx512_vnni", "avx_vnni"))


@cache
def _engine() -> Any:
    if not has_package("openvino"):
        raise Unavailable(MISSING)
    try:
        return _import_without_telemetry("openvino").Core()
    except (ImportError, OSError, RuntimeError) as e:
        raise Unavailable(f"openvino cannot start: {first_line(e)}") from e


def _import_without_telemetry(name: str) -> Any:
    """Import a package of the OpenVINO family without its telemetry: it falls back to a stub of its own."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return import_module(name)


def _cache_facts(
    module: nn.Module, example: tuple[Tensor, ...], precision: Precision, context: BuildContext
) -> Facts:
    calibration = [x for inputs in context.calibration for x in inputs] if precision == "int8" else []
    return {
        "kind": "openvino model",
        "content": module_hash(module),
        "inputs": [[str(x.dtype), list(x.shape)] for x in example],
        "precision": precision,
        "calibration": tensors_hash(calibration),
        "device": processor_name(),
        "versions": versions("openvino", "nncf", "torch"),
    } | ({"int8": INT8_METHOD, "vnni": has_vnni()} if precision == "int8" else {})


def _options(precision: Precision, threads: int) -> dict[str, Any]:
    # What is left unquantised in an int8 model runs in the fastest floating type there is.
    floating = "bf16" if precision != "float32" and has_bfloat16() else "f32"
    return {
        "INFERENCE_PRECISION_HINT": floating,
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,
    }


def _convert(
    module: nn.Module, example: tuple[Tensor, ...], precision: Precision, context: BuildContext
) -> Any:
    if precision == "int8" and not has_package("nncf"):
        raise Unavailable(
            "nncf, which calibrates int8, is not installed (pip install 'affectstream[openvino]')"
        )
    context.progress(f"converting for openvino {precision}")
    openvino = _import_without_telemetry("openvino")
    with warnings.catch_warnings(), _no_logging(), torch.no_grad():
        warnings.simplefilter("ignore")
        # Traced, not exported: an export takes PReLU apart, and with it the kernel that computes it.
        shapes = [list(x.shape) for x in example]
        model = openvino.convert_model(module, example_input=example, input=shapes)
    if precision == "int8":
        context.progress("calibrating int8")
        model = _quantise(model, context)
    return model


@contextlib.contextmanager
def _no_logging() -> Iterator[None]:
    """No warnings of `transformers`: tracing reads every attribute of a model, some of which are deprecated."""
    logger = logging.getLogger("transformers")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _quantise(model: Any, context: BuildContext) -> Any:
    """Post-training int8: weights per channel, activations by the calibration inputs' ranges."""
    samples = [[x.numpy() for x in inputs] for inputs in context.calibration]
    if not samples:
        raise Unavailable("int8 needs calibration inputs, and there are none")
    nncf, ranges = (
        _import_without_telemetry("nncf"),
        _import_without_telemetry("nncf.quantization.range_estimator"),
    )
    nncf.set_log_level(40)
    with contextlib.redirect_stdout(io.StringIO()):  # its progress bars
        return nncf.quantize(
            model,
            nncf.Dataset(samples),
            preset=nncf.QuantizationPreset.MIXED,
            target_device=nncf.TargetDevice.CPU,
            subset_size=len(samples),
            # The quick correction looks at each layer alone: estimates were off by twice as much.
            fast_bias_correction=False,
            # An embedding's length is a sum of squares: eight bits lose it.
            ignored_scope=nncf.IgnoredScope(types=list(_NOT_IN_INT8), validate=False),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                overflow_fix=_overflow_fix(nncf),
                # The widest range of all inputs: nncf's own default, their average, cuts off what is rare.
                activations_range_estimator_params=ranges.RangeEstimatorParametersSet.MINMAX,
            ),
        )


def _overflow_fix(nncf: Any) -> Any:
    """Seven bits to every weight where the processor has no VNNI: there it adds two products in sixteen bits."""
    return nncf.OverflowFix.FIRST_LAYER if has_vnni() else nncf.OverflowFix.ENABLE


def _save_model(model: Any, folder: Path, precision: Precision) -> None:
    _import_without_telemetry("openvino").save_model(
        model, folder / MODEL, compress_to_fp16=precision != "float32"
    )
    for path in folder.iterdir():  # OpenVINO maps them into memory: they must not change
        os.chmod(path, 0o444)
