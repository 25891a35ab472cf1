"""The backbone as it serves: one shared trunk, and the tails of S networks stacked into one.

The same computation as `Backbone` in eval mode, arranged for speed: batch norms become part of the
convolution or linear layer beside them (in float64, rounded once), maps are kept channels-last with the
networks in front, (S, N, H, W, C), and each layer of all networks is one call here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from models.visual.backbone import Backbone, Unit

_ROWS_FOR_PRODUCT: Final = 32


class StackedConv(nn.Module):
    """The same convolution of S networks: maps (S, N, H, W, in) to (S, N, H / stride, W / stride, out).

    Where few pixels come out (one frame's last maps) this is memory-bound and runs as one batched matrix product;
    elsewhere each network's convolution is a call of its own. Grouped convolution took up to three times as long as
    either on CPU. All read the same stored weights, (S, out, k, k, in).
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None, stride: int) -> None:
        """`weight` (S, out, k, k, in) and `bias` (S, out) are kept as they are, not copied."""
        super().__init__()
        self.stride = stride
        self.kernel = weight.shape[2]
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    @classmethod
    def from_weights(
        cls, weights: Sequence[Tensor], biases: Sequence[Tensor] | None, stride: int
    ) -> StackedConv:
        """Of each network's weight (out, in, k, k) and bias (out,)."""
        weight = torch.stack([w.permute(0, 2, 3, 1) for w in weights]).contiguous()
        return cls(weight, None if biases is None else torch.stack(list(biases)), stride)

    def first_networks(self, count: int) -> StackedConv:
        """The first `count` networks' convolution, sharing its tensors."""
        return StackedConv(self.weight[:count], None if self.bias is None else self.bias[:count], self.stride)

    def forward(self, x: Tensor) -> Tensor:
        """(S, N, H, W, in) to (S, N, H / stride, W / stride, out)."""
        networks, batch, height, width, _ = x.shape
        rows = -(-height // self.stride), -(-width // self.stride)
        if batch * rows[0] * rows[1] <= _ROWS_FOR_PRODUCT:
            patches = self._patches(x).reshape(networks, batch * rows[0] * rows[1], -1)
            weight = self.weight.flatten(2).transpose(1, 2)
            if self.bias is None:
                y = torch.bmm(patches, weight)
            else:
                y = torch.baddbmm(self.bias.unsqueeze(1), patches, weight)
            return y.view(networks, batch, *rows, -1)
        maps = [
            functional.conv2d(
                x[i].permute(0, 3, 1, 2),
                self.weight[i].permute(0, 3, 1, 2),
                None if self.bias is None else self.bias[i],
                self.stride,
                self.kernel // 2,
            ).permute(0, 2, 3, 1)
            for i in range(networks)
        ]
        return maps[0].unsqueeze(0) if networks == 1 else torch.stack(maps)

    def _patches(self, x: Tensor) -> Tensor:
        height, width, pad = x.shape[2], x.shape[3], self.kernel // 2
        if pad == 0:
            return x[:, :, :: self.stride, :: self.stride]
        x = functional.pad(x, (0, 0, pad, pad, pad, pad))
        taps = range(self.kernel)
        return torch.stack(
            [x[:, :, i : i + height : self.stride, j : j + width : self.stride] for i in taps for j in taps],
            dim=4,
        )


class StackedUnit(nn.Module):
    """The same unit of S networks: maps (S, N, H, W, in) to (S, N, H / stride, W / stride, width)."""

    scale: Tensor
    shift: Tensor
    slope: Tensor

    def __init__(
        self,
        scale: Tensor,
        shift: Tensor,
        slope: Tensor,
        first: StackedConv,
        second: StackedConv,
        shortcut: StackedConv | None,
    ) -> None:
        """The first batch norm's `scale` and `shift`, the PReLU's `slope`, (S, 1, 1, 1, C) each; the convolutions,
        the second one with the batch norm after it, and the shortcut's where there is one.
        """
        super().__init__()
        self.stride = second.stride
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)
        self.first = first
        self.register_buffer("slope", slope)
        self.second = second
        self.shortcut = shortcut

    @classmethod
    def from_units(cls, units: Sequence[Unit]) -> StackedUnit:
        """Of each network's unit; all are of one shape."""
        parts, stride = [_layers_of(unit) for unit in units], units[0].stride
        norms = [_affine(norm) for norm, *_ in parts]
        folded = [_fold_norm(conv, norm) for _, _, _, conv, norm in parts]
        shortcuts = [_projection_of(unit) for unit in units]
        projections = [_fold_norm(conv, norm) for conv, norm in (s for s in shortcuts if s is not None)]
        return cls(
            # Padding comes after this norm, so it cannot be folded into the convolution that follows.
            scale=_per_channel([scale.float() for scale, _ in norms]),
            shift=_per_channel([shift.float() for _, shift in norms]),
            slope=_per_channel([prelu.weight.detach() for _, _, prelu, _, _ in parts]),
            first=StackedConv.from_weights([conv.weight.detach() for _, conv, *_ in parts], None, stride=1),
            second=StackedConv.from_weights([w for w, _ in folded], [b for _, b in folded], stride),
            shortcut=StackedConv.from_weights(
                [w for w, _ in projections], [b for _, b in projections], stride
            )
            if projections
            else None,
        )

    def first_networks(self, count: int) -> StackedUnit:
        """The first `count` networks' unit, sharing its tensors."""
        return StackedUnit(
            self.scale[:count],
            self.shift[:count],
            self.slope[:count],
            self.first.first_networks(count),
            self.second.first_networks(count),
            None if self.shortcut is None else self.shortcut.first_networks(count),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(S, N, H, W, in) to (S, N, H / stride, W / stride, width)."""
        inner = _prelu(self.first(torch.addcmul(self.shift, x, self.scale)), self.slope)
        y: Tensor = self.second(inner)
        if self.shortcut is None:
            y += x[:, :, :: self.stride, :: self.stride]
        else:
            y += self.shortcut(x)
        return y


class ServedTrunk(nn.Module):
    """The trunk of one backbone: crops (N, 3, S, S) to its feature map (N, C, H, W).

    `weight` and `bias` are the output layer's where the whole backbone is the trunk, else None.
    """

    slope: Tensor
    weight: Tensor | None
    bias: Tensor | None

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        conv, norm, prelu = backbone.input_layer
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(prelu, nn.PReLU)
        weight, bias = _fold_norm(conv, norm)
        self.first = StackedConv.from_weights([weight], [bias], stride=1)
        self.register_buffer("slope", _per_channel([prelu.weight.detach()]))
        units = [StackedUnit.from_units([unit]) for unit in backbone.trunk_units()]
        self.units = nn.Sequential(*units)
        output = _fold_output(backbone) if backbone.spec.frozen else None
        self.register_buffer("weight", None if output is None else output[0])
        self.register_buffer("bias", None if output is None else output[1])

    def forward(self, crops: Tensor) -> Tensor:
        """Crops (N, 3, S, S) to the feature map (N, C, H, W), of one pixel for a whole backbone."""
        x = crops.permute(0, 2, 3, 1).contiguous().unsqueeze(0)
        y: Tensor = self.units(_prelu(self.first(x), self.slope))[0]
        if self.weight is not None and self.bias is not None:
            return torch.addmm(self.bias, y.flatten(1), self.weight)[:, :, None, None]
        return y.permute(0, 3, 1, 2)


class StackedTail(nn.Module):
    """The tails of S backbones of one specification: their trunks' maps to embeddings (S, N, E).

    Of frozen backbones only the normalisation is left: `weight` and `bias` are None.
    """

    weight: Tensor | None
    bias: Tensor | None

    def __init__(self, units: Iterable[StackedUnit], weight: Tensor | None, bias: Tensor | None) -> None:
        """The released `units`, and the output layer's `weight` (S, H * W * C, E) and `bias` (S, 1, E)."""
        super().__init__()
        self.units = nn.Sequential(*units)
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    @classmethod
    def from_backbones(cls, backbones: Sequence[Backbone]) -> StackedTail:
        """Of each network's backbone; all are of one specification."""
        units = zip(*(b.tail_units() for b in backbones), strict=True)
        if backbones[0].spec.frozen:
            return cls((), None, None)
        outputs = [_fold_output(b) for b in backbones]
        return cls(
            (StackedUnit.from_units(stack) for stack in units),
            torch.stack([w for w, _ in outputs]),
            torch.stack([b for _, b in outputs]).unsqueeze(1),
        )

    def first_networks(self, count: int) -> StackedTail:
        """The first `count` networks' tails, sharing their tensors."""
        units = (unit.first_networks(count) for unit in self.units if isinstance(unit, StackedUnit))
        if self.weight is None or self.bias is None:
            return StackedTail(units, None, None)
        return StackedTail(units, self.weight[:count], self.bias[:count])

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Each network's feature map (N, C, H, W), a shared one once for each, to embeddings (S, N, E)."""
        x: Tensor = self.units(torch.stack([m.permute(0, 2, 3, 1) for m in maps]))
        if self.weight is None or self.bias is None:
            return functional.normalize(x.flatten(2), dim=2)
        return functional.normalize(torch.baddbmm(self.bias, x.flatten(2), self.weight), dim=2)


def _layers_of(unit: Unit) -> tuple[nn.BatchNorm2d, nn.Conv2d, nn.PReLU, nn.Conv2d, nn.BatchNorm2d]:
    norm, first, prelu, second, last = unit.res_layer
    assert isinstance(norm, nn.BatchNorm2d)
    assert isinstance(first, nn.Conv2d)
    assert isinstance(prelu, nn.PReLU)
    assert isinstance(second, nn.Conv2d)
    assert isinstance(last, nn.BatchNorm2d)
    return norm, first, prelu, second, last


def _projection_of(unit: Unit) -> tuple[nn.Conv2d, nn.Module] | None:
    if not isinstance(unit.shortcut_layer, nn.Sequential):
        return None
    conv, norm = unit.shortcut_layer
    assert isinstance(conv, nn.Conv2d)
    return conv, norm


def _prelu(x: Tensor, slope: Tensor) -> Tensor:
    # Three vectorised passes: torch.where over a mask is several times slower on CPU.
    return torch.addcmul(x.clamp_min(0), slope, x.clamp_max(0))


def _per_channel(values: Sequence[Tensor]) -> Tensor:
    """One vector (C,) per network as (S, 1, 1, 1, C)."""
    return torch.stack(list(values)).view(len(values), 1, 1, 1, -1)


def _affine(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """A batch norm in eval mode as scale and shift per channel, float64."""
    assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
    return scale, norm.bias.detach().double() - norm.running_mean.double() * scale


def _fold_norm(conv: nn.Conv2d, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """A convolution without bias and the batch norm after it, as one weight and one bias."""
    scale, shift = _affine(norm)
    return (conv.weight.detach().double() * scale.view(-1, 1, 1, 1)).float(), shift.float()


def _fold_output(backbone: Backbone) -> tuple[Tensor, Tensor]:
    """An output layer (BN2d, flatten, linear, BN1d) as one weight (H * W * C, E) and one bias (E,)."""
    norm2d, _, _, linear, norm1d = backbone.output_layer
    assert isinstance(linear, nn.Linear)
    pixels = backbone.spec.map_size**2
    in_scale, in_shift = _affine(norm2d)
    out_scale, out_shift = _affine(norm1d)
    weight = linear.weight.detach().double().view(linear.out_features, -1, pixels)
    bias = linear.bias.detach().double() + (weight * in_shift.unsqueeze(1)).sum(dim=(1, 2))
    weight = weight * in_scale.unsqueeze(1) * out_scale.view(-1, 1, 1)
    return weight.permute(2, 1, 0).flatten(0, 1).float().contiguous(), (bias * out_scale + out_shift).float()
