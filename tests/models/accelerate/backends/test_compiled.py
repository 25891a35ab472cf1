"""PyTorch's compiler on the CPU."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

import pytest
import torch
import torch._dynamo
from torch import Tensor
from torch._dynamo.utils import counters

from models.accelerate.backend import Backend, Unavailable
from models.accelerate.backends import compiled as compiled_module
from models.accelerate.build import accelerate
from tests.models.accelerate.small_module import Small, Watchful, expected

if TYPE_CHECKING:
    from collections.abc import Callable


class TestCompile:
    """Mostly with a back-end that makes no code: what is traced, and when, is the same."""

    @pytest.fixture(autouse=True)
    def _traced_afresh(self) -> None:
        torch._dynamo.reset()

    @pytest.fixture
    def traced_only(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))

    @pytest.mark.usefixtures("traced_only")
    @pytest.mark.parametrize("serving", [torch.inference_mode, torch.no_grad, nullcontext])
    @pytest.mark.parametrize("other_thread", [False, True])
    def test_what_was_built_is_not_compiled_again_when_it_serves(
        self,
        serving: Callable[[], AbstractContextManager[None]],
        other_thread: bool,
        module: Small,
        x: Tensor,
    ) -> None:
        before = counters["stats"]["unique_graphs"]
        runner = accelerate(module, (x,), Backend("compile"))

        def serve() -> Tensor:
            with serving(), torch._dynamo.config.patch(error_on_recompile=True):
                return runner(x + 1)[0]

        with ThreadPoolExecutor(1) as thread:
            found = thread.submit(serve).result() if other_thread else serve()
        assert counters["stats"]["unique_graphs"] == before + 1
        torch.testing.assert_close(found, expected(module, x + 1))

    @pytest.mark.skipif(
        not compiled_module._OWN_CACHE, reason="this PyTorch gives runners no caches of their own"
    )
    @pytest.mark.usefixtures("traced_only")
    def test_each_of_ten_runners_stays_compiled(self, x: Tensor) -> None:
        module = Watchful().eval()
        runners = {
            n: accelerate(module, (x[:1].repeat(n, 1, 1, 1),), Backend("compile")) for n in range(1, 11)
        }
        for n, runner in runners.items():
            runner(x[:1].repeat(n, 1, 1, 1))
        assert module.eager_calls == 0

    @pytest.mark.usefixtures("traced_only")
    def test_a_runner_that_would_not_be_compiled_is_refused(
        self, x: Tensor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As with a PyTorch that gives runners no caches of their own."""
        monkeypatch.setattr(compiled_module, "_OWN_CACHE", {})
        with torch._dynamo.config.patch(recompile_limit=1):
            accelerate(Watchful().eval(), (x,), Backend("compile"))
            with pytest.raises(Unavailable, match=r"torch.compile cannot take it: .*limit"):
                accelerate(Watchful().eval(), (x[:1],), Backend("compile"))

    @pytest.mark.slow
    def test_it_agrees(self, module: Small, x: Tensor) -> None:
        (found,) = accelerate(module, (x,), Backend("compile"))(x)
        torch.testing.assert_close(found, expected(module, x), atol=1e-5, rtol=1e-5)
