"""What tests of served bundles share: whether one serves as eager does, and back-ends that are made up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from models.accelerate.backend import EAGER, Backend, Runner, Unavailable
from models.accelerate.hardware import has_package
from models.accelerate.runtime import STEPS, Runtime

if TYPE_CHECKING:
    from models.bundle.load import Bundle

needs_openvino = pytest.mark.skipif(not has_package("openvino"), reason="openvino is not installed")


def backends_of(runtime: Runtime) -> dict[str, Backend]:
    """The back-end of each encoder; temporal branches and fusion follow that of the picture encoder."""
    return {r.part: r.backend for r in runtime.reports if r.part != STEPS}


def assert_serves_as_eager(runtime: Runtime, bundle: Bundle, *, atol: float) -> None:
    crops, patches = bundle.probe["crops"], bundle.probe["patches"]
    assert bundle.audio_encoder is not None
    with torch.no_grad():
        sound = bundle.audio_encoder(patches)
    for n in range(1, len(crops) + 1):
        found = runtime.embed_visual(crops[:n])
        torch.testing.assert_close(found, bundle.ensemble.embed_visual(crops[:n]), atol=atol, rtol=0)
        found = runtime.embed_audio(patches[:n])
        torch.testing.assert_close(found, sound[:n], atol=atol * float(sound.abs().max()), rtol=0)
    begun = runtime.start_audio(patches[:1])
    beside = runtime.embed_visual(crops[:1])
    torch.testing.assert_close(beside, bundle.ensemble.embed_visual(crops[:1]), atol=atol, rtol=0)
    torch.testing.assert_close(begun(), sound[:1], atol=atol * float(sound.abs().max()), rtol=0)


class FakeBackends:
    """Back-ends made of eager with a given error and cost, to see which of them `auto` chooses."""

    def __init__(self, errors: dict[str, float], ms: dict[str, float]) -> None:
        self.errors, self.ms = errors, ms
        self.built: list[str] = []

    def accelerate(
        self, module: nn.Module, example: tuple[Tensor, ...], backend: Backend, context: object = None
    ) -> Runner:
        if backend == EAGER:
            return lambda *x: (module(*x).detach(),)
        self.built.append(backend.precision)
        if backend.precision not in self.errors:
            raise Unavailable("not here")
        error = self.errors[backend.precision]

        def run(*inputs: Tensor) -> tuple[Tensor, ...]:
            y = module(*inputs).detach()
            return (y + error * torch.linspace(-1, 1, y.shape[-1]),)

        run.precision = backend.precision  # type: ignore[attr-defined]
        return run

    def measure(self, part: object, runners: dict[int, Runner]) -> float:
        runner = next(iter(runners.values()))
        return self.ms[getattr(runner, "precision", "eager")]
