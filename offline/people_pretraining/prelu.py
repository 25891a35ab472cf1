"""PReLU for training in bfloat16 on CPUs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class VectorizedPReLU(nn.PReLU):
    """`nn.PReLU` in operations that PyTorch vectorises for bfloat16 as well: of a training step of the practical
    backbone, half was PReLU.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape, with one slope per channel."""
        y: Tensor = _VectorizedPReLU.apply(x, self.weight)  # type: ignore[no-untyped-call]
        return y


def vectorize_prelu(module: nn.Module) -> None:
    """Put a `VectorizedPReLU` with the same weights in place of every PReLU in `module`."""
    for name, child in module.named_children():
        if isinstance(child, nn.PReLU):
            vectorized = VectorizedPReLU(child.num_parameters)
            vectorized.load_state_dict(child.state_dict())
            setattr(module, name, vectorized)
        else:
            vectorize_prelu(child)


class _VectorizedPReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        slope = weight.to(x.dtype).view(1, -1, 1, 1)
        ctx.save_for_backward(x, slope)
        return torch.relu(x).mul_(1 - slope).addcmul_(x, slope)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        (grad,) = grads
        x, slope = ctx.saved_tensors
        positive = torch.ops.aten.threshold_backward(grad, x, 0)
        negative = grad - positive
        return torch.addcmul(positive, negative, slope), (negative * x).sum((0, 2, 3), dtype=torch.float32)
