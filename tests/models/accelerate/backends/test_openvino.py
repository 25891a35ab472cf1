"""OpenVINO: what it makes of a module at each precision, and what it keeps."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
import torch
import torch._dynamo
from torch import Tensor, nn

from models.accelerate.backend import Backend, BuildContext, Unavailable
from models.accelerate.backends import openvino as openvino_module
from models.accelerate.backends.openvino import MODEL
from models.accelerate.build import accelerate
from models.accelerate.cache import ArtifactCache
from tests.models.accelerate.serving import needs_openvino
from tests.models.accelerate.small_module import Small, expected

if TYPE_CHECKING:
    from pathlib import Path


@needs_openvino
class TestOpenvino:
    def test_float32_agrees_to_rounding(self, module: Small, x: Tensor) -> None:
        (found,) = accelerate(module, (x,), Backend("openvino"))(x)
        torch.testing.assert_close(found, expected(module, x), atol=1e-5, rtol=1e-5)

    def test_bfloat16_agrees_roughly(self, module: Small, x: Tensor) -> None:
        if not openvino_module.has_bfloat16():
            pytest.skip("this processor has no bfloat16")
        (found,) = accelerate(module, (x,), Backend("openvino", "bfloat16"))(x)
        torch.testing.assert_close(found, expected(module, x), atol=0.03, rtol=0)
        assert not torch.equal(found, expected(module, x))

    def test_int8_agrees_on_what_it_was_calibrated_on(self, module: Small, x: Tensor, tmp_path: Path) -> None:
        pytest.importorskip("nncf", reason="nncf is not installed")
        context = BuildContext(cache=ArtifactCache(tmp_path), calibration=[(x,), (0.5 * x,), (-x,)])
        (found,) = accelerate(module, (x,), Backend("openvino", "int8"), context)(x)
        torch.testing.assert_close(found, expected(module, x), atol=0.1, rtol=0)
        # The embedding's length is not left to eight bits.
        torch.testing.assert_close(found.norm(dim=1), torch.ones(2), atol=0.01, rtol=0)

    def test_int8_does_not_cut_off_what_is_rare_among_its_calibration_inputs(
        self, module: Small, x: Tensor
    ) -> None:
        pytest.importorskip("nncf", reason="nncf is not installed")
        context = BuildContext(calibration=[*[(0.1 * x,)] * 30, (x,)])
        (found,) = accelerate(module, (x,), Backend("openvino", "int8"), context)(x)
        torch.testing.assert_close(found, expected(module, x), atol=0.1, rtol=0)

    @pytest.mark.parametrize("change", ["method", "processor"])
    def test_int8_of_another_method_or_processor_is_built_anew(
        self, change: str, module: Small, x: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytest.importorskip("nncf", reason="nncf is not installed")
        said: list[str] = []
        context = BuildContext(cache=ArtifactCache(tmp_path), progress=said.append, calibration=[(x,), (-x,)])
        accelerate(module, (x,), Backend("openvino", "int8"), context)
        assert "calibrating int8" in said
        said.clear()
        accelerate(module, (x,), Backend("openvino", "int8"), context)
        assert not said
        if change == "method":
            monkeypatch.setattr(openvino_module, "INT8_METHOD", openvino_module.INT8_METHOD + 1)
        else:
            here = openvino_module.has_vnni()
            monkeypatch.setattr(openvino_module, "has_vnni", lambda: not here)
        accelerate(module, (x,), Backend("openvino", "int8"), context)
        assert "calibrating int8" in said

    def test_int8_without_calibration_inputs_is_unavailable(self, module: Small, x: Tensor) -> None:
        pytest.importorskip("nncf", reason="nncf is not installed")
        with pytest.raises(Unavailable, match="calibration inputs"):
            accelerate(module, (x,), Backend("openvino", "int8"))

    def test_results_are_the_callers_own(self, module: Small, x: Tensor) -> None:
        runner = accelerate(module, (x,), Backend("openvino"))
        first = runner(x)[0]
        kept = first.clone()
        runner(-x)
        assert torch.equal(first, kept)

    def test_another_shape_is_refused(self, module: Small, x: Tensor) -> None:
        runner = accelerate(module, (x,), Backend("openvino"))
        with pytest.raises(ValueError, match="built for inputs"):
            runner(x[:1])

    def test_a_converted_model_is_taken_from_the_cache(
        self, module: Small, x: Tensor, tmp_path: Path
    ) -> None:
        said: list[str] = []
        context = BuildContext(cache=ArtifactCache(tmp_path), progress=said.append)
        first = accelerate(module, (x,), Backend("openvino"), context)(x)[0]
        assert said
        said.clear()
        assert torch.equal(accelerate(module, (x,), Backend("openvino"), context)(x)[0], first)
        assert not said

    @pytest.mark.parametrize("what", ["content", "shape", "precision"])
    def test_other_content_shape_or_precision_is_another_entry(
        self, what: str, module: Small, x: Tensor, tmp_path: Path
    ) -> None:
        said: list[str] = []
        context = BuildContext(cache=ArtifactCache(tmp_path), progress=said.append)
        accelerate(module, (x,), Backend("openvino"), context)
        said.clear()
        changed = Small(seed=2).eval() if what == "content" else module
        inputs = x[:1] if what == "shape" else x
        backend = Backend("openvino", "bfloat16") if what == "precision" else Backend("openvino")
        if what == "precision" and not openvino_module.has_bfloat16():
            pytest.skip("this processor has no bfloat16")
        (found,) = accelerate(changed, (inputs,), backend, context)(inputs)
        assert said
        torch.testing.assert_close(found, expected(changed, inputs), atol=0.03, rtol=0)

    def test_a_damaged_entry_is_built_again(self, module: Small, x: Tensor, tmp_path: Path) -> None:
        context = BuildContext(cache=ArtifactCache(tmp_path))
        accelerate(module, (x,), Backend("openvino"), context)
        (model,) = tmp_path.rglob(MODEL)
        weights = model.with_suffix(".bin")
        weights.chmod(0o644)
        weights.write_bytes(b"\0" + weights.read_bytes()[1:])
        (found,) = accelerate(module, (x,), Backend("openvino"), context)(x)
        torch.testing.assert_close(found, expected(module, x), atol=1e-5, rtol=1e-5)

    def test_no_usage_statistics_leave_the_machine(self, module: Small, x: Tensor) -> None:
        accelerate(module, (x,), Backend("openvino"))
        from openvino.tools.ovc import telemetry_utils

        assert telemetry_utils.tm.__name__ == "openvino.tools.ovc.telemetry_stub"
        assert sys.modules["openvino_telemetry"] is None

    def test_a_module_that_it_cannot_take_is_one_line(self, x: Tensor) -> None:
        class Odd(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                raise RuntimeError("first\nsecond")

        with pytest.raises(Unavailable) as caught:
            accelerate(Odd(), (x,), Backend("openvino"))
        assert "\n" not in str(caught.value)
