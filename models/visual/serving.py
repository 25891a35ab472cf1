"""The backbone as it serves: one shared trunk, and the tails of S folds stacked into one.

The same computation as `Backbone` in eval mode, arranged for speed: batch norms become part of the convolutions
and of the linear layer beside them (in float64, then rounded once), and S networks' layers run as one batched
operation each.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.visual.backbone import Backbone, Unit


class StackedUnit(nn.Module):
    """The same unit of S networks: maps (N, S * in, H, W) to (N, S * width, H / stride, W / stride)."""

    def __init__(self, units: Sequence[Unit]) -> None:
        super().__init__()
        self.networks = len(units)
        self.stride = units[0].stride
        first = [_affine(u.res_layer[0]) for u in units]
        self.register_buffer("in_scale", torch.cat([s for s, _ in first]).float().view(1, -1, 1, 1))
        self.register_buffer("in_shift", torch.cat([b for _, b in first]).float().view(1, -1, 1, 1))
        self.register_buffer("weight1", torch.cat([u.res_layer[1].weight.detach() for u in units]))
        self.register_buffer("slope", torch.cat([u.res_layer[2].weight.detach() for u in units]))
        second = [_fold(u.res_layer[3], u.res_layer[4]) for u in units]
        self.register_buffer("weight2", torch.cat([w for w, _ in second]))
        self.register_buffer("bias2", torch.cat([b for _, b in second]))
        self.projects = isinstance(units[0].shortcut_layer, nn.Sequential)
        if self.projects:
            shortcut = [_fold(u.shortcut_layer[0], u.shortcut_layer[1]) for u in units]
            self.register_buffer("shortcut_weight", torch.cat([w for w, _ in shortcut]))
            self.register_buffer("shortcut_bias", torch.cat([b for _, b in shortcut]))

    def forward(self, x: Tensor) -> Tensor:
        """(N, S * in, H, W) to (N, S * width, H / stride, W / stride)."""
        y = torch.addcmul(self.in_shift, x, self.in_scale)
        y = functional.conv2d(y, self.weight1, padding=1, groups=self.networks)
        y = functional.prelu(y, self.slope)
        y = functional.conv2d(y, self.weight2, self.bias2, self.stride, padding=1, groups=self.networks)
        if self.projects:
            x = functional.conv2d(
                x, self.shortcut_weight, self.shortcut_bias, self.stride, groups=self.networks
            )
        elif self.stride > 1:
            x = x[:, :, :: self.stride, :: self.stride]
        return y + x


class ServedTrunk(nn.Module):
    """The trunk of one backbone: crops (N, 3, S, S) to its feature map."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        conv, norm, act = backbone.input_layer
        weight, bias = _fold(conv, norm)
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.register_buffer("slope", act.weight.detach().clone())
        self.units = nn.Sequential(*(StackedUnit([u]) for u in backbone.groups()["trunk"][1:]))

    def forward(self, crops: Tensor) -> Tensor:
        """Crops (N, 3, S, S) to the feature map (N, C, H, W)."""
        x = functional.prelu(functional.conv2d(crops, self.weight, self.bias, padding=1), self.slope)
        y: Tensor = self.units(x)
        return y


class StackedTail(nn.Module):
    """The tails of S backbones of one specification: their trunks' maps to embeddings (S, N, E)."""

    def __init__(self, backbones: Sequence[Backbone]) -> None:
        super().__init__()
        self.networks = len(backbones)
        tails = [[*b.groups()["layer3_tail"], *b.groups()["layer4"]] for b in backbones]
        self.units = nn.Sequential(*(StackedUnit(units) for units in zip(*tails, strict=True)))
        outputs = [_fold_output(b) for b in backbones]
        self.register_buffer("weight", torch.stack([w for w, _ in outputs]))
        self.register_buffer("bias", torch.stack([b for _, b in outputs]).unsqueeze(1))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Each network's feature map (N, C, H, W), S of them (shared ones repeated), to embeddings (S, N, E)."""
        x: Tensor = self.units(torch.cat(list(maps), dim=1))
        flat = x.reshape(x.shape[0], self.networks, -1).transpose(0, 1)
        return functional.normalize(torch.baddbmm(self.bias, flat, self.weight), dim=2)


def _affine(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """A batch norm in eval mode as scale and shift per channel, float64."""
    assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
    return scale, norm.bias.detach().double() - norm.running_mean.double() * scale


def _fold(conv: nn.Module, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """A convolution without bias and the batch norm after it, as one weight and one bias."""
    assert isinstance(conv, nn.Conv2d)
    scale, shift = _affine(norm)
    return (conv.weight.detach().double() * scale.view(-1, 1, 1, 1)).float(), shift.float()


def _fold_output(backbone: Backbone) -> tuple[Tensor, Tensor]:
    """An output layer (BN2d, flatten, linear, BN1d) as one weight (C * H * W, E) and one bias (E,)."""
    norm2d, _, _, linear, norm1d = backbone.output_layer
    assert isinstance(linear, nn.Linear)
    in_scale, in_shift = (t.repeat_interleave(backbone.spec.map_size**2) for t in _affine(norm2d))
    out_scale, out_shift = _affine(norm1d)
    weight = linear.weight.detach().double()
    bias = (linear.bias.detach().double() + weight @ in_shift) * out_scale + out_shift
    return (weight * in_scale * out_scale.unsqueeze(1)).t().float().contiguous(), bias.float()
