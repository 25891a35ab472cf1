"""A module with one layer of each kind that the encoders are made of."""

from __future__ import annotations

import torch
import torch._dynamo
from torch import Tensor, nn
from torch.nn import functional


class Small(nn.Module):
    """A convolution, a PReLU and a normalised linear layer: one of each kind that the parts are made of."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.conv = nn.Conv2d(3, 8, 3, padding=1)
            self.linear = nn.Linear(8 * 16, 6)
        self.slope = nn.Parameter(torch.full((8,), 0.2))

    def forward(self, x: Tensor) -> Tensor:
        y = functional.prelu(self.conv(x), self.slope)
        return functional.normalize(self.linear(y.flatten(1)), dim=1)


class Watchful(Small):
    """Counts the calls that are not compiled."""

    eager_calls = 0

    def forward(self, x: Tensor) -> Tensor:
        if not torch.compiler.is_compiling():
            self.eager_calls += 1
        return super().forward(x)


def expected(module: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        y: Tensor = module(x)
    return y
