"""TensorRT, which cannot be installed on every machine: a stand-in with the documented interface takes its place."""

from __future__ import annotations

import io
import sys
import types
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from models.accelerate import select as select_module
from models.accelerate import steps as steps_module
from models.accelerate.backends import tensorrt as tensorrt_module
from models.accelerate.backends.eager import run_eager
from models.accelerate.backends.tensorrt import ENGINE
from models.accelerate.runtime import STEPS
from models.accelerate.select import Preference, serve
from tests.models.accelerate.serving import assert_serves_as_eager

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.accelerate.cache import ArtifactCache
    from models.bundle.load import Bundle


class StandInEngine(nn.Module):
    """What `torch_tensorrt.dynamo.runtime.TorchTensorRTModule` is to a caller: named bindings, tensors in and out."""

    def __init__(
        self,
        serialized_engine: bytes,
        input_binding_names: list[str],
        output_binding_names: list[str],
        *,
        name: str = "",
    ) -> None:
        super().__init__()
        program = torch.export.load(io.BytesIO(serialized_engine))
        assert input_binding_names == list(program.graph_signature.user_inputs)
        assert output_binding_names == [
            f"output{i}" for i in range(len(program.graph_signature.user_outputs))
        ]
        self._run = program.module()

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        found = self._run(*inputs)
        return found[0] if len(found) == 1 else found  # type: ignore[no-any-return]


class StandIn:
    """The module `torch_tensorrt`, whose engines are exported programs; it counts what it builds."""

    def __init__(self) -> None:
        self.builds: list[list[tuple[int, ...]]] = []
        self.failure: Exception | None = None
        self.error = 0.0
        module = types.ModuleType("torch_tensorrt")
        module.dynamo = types.SimpleNamespace(  # type: ignore[attr-defined]
            convert_exported_program_to_serialized_trt_engine=self.convert,
            runtime=types.SimpleNamespace(TorchTensorRTModule=self.wrap),
        )
        self.module = module

    def convert(self, program: torch.export.ExportedProgram, arg_inputs: Sequence[Tensor]) -> bytes:
        if self.failure is not None:
            raise self.failure
        self.builds.append([tuple(x.shape) for x in arg_inputs])
        content = io.BytesIO()
        torch.export.save(program, content)
        return content.getvalue()

    def wrap(self, *args: object, **kwargs: object) -> nn.Module:
        engine = StandInEngine(*args, **kwargs)  # type: ignore[arg-type]
        if not self.error:
            return engine
        return _Shifted(engine, self.error)


class _Shifted(nn.Module):
    def __init__(self, inner: nn.Module, error: float) -> None:
        super().__init__()
        self.inner, self.error = inner, error

    def forward(self, *inputs: Tensor) -> Tensor:
        y: Tensor = self.inner(*inputs)
        return y + self.error * torch.linspace(-1, 1, y.shape[-1])


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn()
    monkeypatch.setitem(sys.modules, "torch_tensorrt", stand_in.module)
    monkeypatch.setattr(tensorrt_module, "has_cuda", lambda: True)
    monkeypatch.setattr(tensorrt_module, "device_name", lambda: "NVIDIA stand-in sm_90")
    monkeypatch.setattr(tensorrt_module, "DEVICE", "cpu")
    monkeypatch.setattr(select_module, "has_cuda", lambda: True)
    monkeypatch.setattr(steps_module, "accelerate", lambda module, *given: run_eager(module))  # CUDA's part
    return stand_in


FLOAT32 = Preference("tensorrt", "float32")


class TestTensorrtStandIn:
    def test_engines_are_built_once_per_part_and_shape_then_cached(
        self, bundle: Bundle, cache: ArtifactCache, stand_in: StandIn
    ) -> None:
        said: list[str] = []
        runtime = serve(bundle, preference=FLOAT32, cache=cache, batches=(1, 2), progress=said.append)
        assert runtime.notes == ()
        assert len(stand_in.builds) == 4
        assert sum("building the TensorRT engine" in line for line in said) == 4
        assert_serves_as_eager(runtime, bundle, atol=1e-4)
        again = serve(bundle, preference=FLOAT32, cache=cache, batches=(1, 2))
        assert len(stand_in.builds) == 4
        assert_serves_as_eager(again, bundle, atol=1e-4)

    def test_float16_runs_at_half_precision_and_within_its_limits(
        self, bundle: Bundle, cache: ArtifactCache, stand_in: StandIn
    ) -> None:
        runtime = serve(bundle, preference=Preference("tensorrt", "float16"), cache=cache)
        assert runtime.name == "tensorrt float16"
        senses = [r for r in runtime.reports if r.part != STEPS]
        assert all(r.agreement is not None and 0 < r.agreement.features < 0.02 for r in senses)

    @pytest.mark.parametrize("what", ["device_name", "versions"])
    def test_another_device_or_version_builds_anew(
        self,
        what: str,
        bundle: Bundle,
        cache: ArtifactCache,
        stand_in: StandIn,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        serve(bundle, preference=FLOAT32, cache=cache)
        monkeypatch.setattr(tensorrt_module, what, lambda *names: "another")
        serve(bundle, preference=FLOAT32, cache=cache)
        assert len(stand_in.builds) == 4

    def test_a_damaged_engine_is_built_anew(
        self, bundle: Bundle, cache: ArtifactCache, stand_in: StandIn
    ) -> None:
        serve(bundle, preference=FLOAT32, cache=cache)
        for engine in cache.folder.rglob(ENGINE):
            engine.write_bytes(engine.read_bytes()[:-1])
        runtime = serve(bundle, preference=FLOAT32, cache=cache)
        assert len(stand_in.builds) == 4
        assert_serves_as_eager(runtime, bundle, atol=1e-4)

    def test_a_wrong_engine_does_not_serve(
        self, bundle: Bundle, cache: ArtifactCache, stand_in: StandIn
    ) -> None:
        stand_in.error = 0.5
        runtime = serve(bundle, preference=FLOAT32, cache=cache)
        assert runtime.name == "eager"
        assert all("disagreed with eager on the probe" in note for note in runtime.notes)
        assert_serves_as_eager(runtime, bundle, atol=1e-6)

    def test_a_failing_build_falls_back_in_one_line(
        self, bundle: Bundle, cache: ArtifactCache, stand_in: StandIn
    ) -> None:
        stand_in.failure = RuntimeError("no kernel for this\nand a long trace")
        runtime = serve(bundle, preference=FLOAT32, cache=cache)
        assert runtime.name == "eager"
        assert runtime.notes[0] == (
            "visual: tensorrt float32 does not serve: tensorrt cannot take it: no kernel for this"
        )

    def test_auto_tries_it_where_there_is_a_gpu(self, bundle: Bundle, stand_in: StandIn) -> None:
        stand_in.failure = RuntimeError("no")
        runtime = serve(bundle, frame_rate=1e6)
        tried = {note.split(": ")[1].removesuffix(" does not serve") for note in runtime.notes}
        assert tried >= {"tensorrt float32", "tensorrt float16", "cuda float32", "cuda float16"}
        assert runtime.name == "eager"
