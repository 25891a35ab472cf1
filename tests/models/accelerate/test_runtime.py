"""The runtime: any number of frames by runners of fixed sizes, and the folds that are at work."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from models.accelerate.backend import Runner
from models.accelerate.runtime import BatchedPart


class TestBatchedPart:
    @pytest.mark.parametrize("sizes", [(1,), (2,), (1, 3), (4, 8), (3, 5)])
    @pytest.mark.parametrize("frames", [1, 2, 3, 7, 16])
    def test_any_number_of_frames_in_order(self, sizes: Sequence[int], frames: int) -> None:
        def runner(size: int) -> Runner:
            def run(*inputs: Tensor) -> tuple[Tensor, ...]:
                assert inputs[0].shape[0] == size
                return (torch.stack([inputs[0], -inputs[0]]),)

            return run

        x = torch.arange(frames * 2.0).view(frames, 2)
        found = BatchedPart({n: runner(n) for n in sizes}, frame_dim=1)(x)
        assert torch.equal(found, torch.stack([x, -x]))
