"""Co-attention: at every time step, attention across the modalities (report section 2, Eq. 1).

Each modality's encoding is projected to a query, a key and a value of width d_k. The attention feature is
(softmax(Q K^T / sqrt(d_k)) + 1) V, that is softmax(...) V + V, layer-normalised over the whole (M, d_k) map
and flattened; the leading modality's encoding goes in front of it. Nothing here looks across time.

A modality that is missing at run time has no key (the softmax passes it by) and a zero value. With all of
them missing the attention feature is the layer norm of a zero map: finite, and the same whatever the inputs
hold.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from models.spec import Modality


def attend(query: Tensor, key: Tensor, value: Tensor, available: Tensor | None) -> Tensor:
    """softmax(Q K^T / sqrt(d_k)) V + V over the modalities.

    `query`, `key`, `value` are (..., M, d_k); `available` is (..., M) bool or None where nothing is missing.
    """
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    if available is not None:
        # The lowest finite score, not -inf: a row with every key masked must stay finite (its values are zero).
        scores = scores.masked_fill(~available.unsqueeze(-2), torch.finfo(scores.dtype).min)
        value = value.masked_fill(~available.unsqueeze(-1), 0.0)
    return scores.softmax(dim=-1) @ value + value


class CoAttention(nn.Module):
    """Encodings of M modalities to one feature: the leading encoding, then the flattened attention map.

    `widths` gives each modality's encoding width, in fusion's order; `width` is the feature's.
    """

    def __init__(self, widths: Mapping[Modality, int], leading: Modality, d_k: int) -> None:
        super().__init__()
        self.modalities = tuple(widths)
        self.leading = leading
        self.d_k = d_k
        self.width = widths[leading] + len(widths) * d_k
        self.query = nn.ModuleDict({m.value: nn.Linear(w, d_k) for m, w in widths.items()})
        self.key = nn.ModuleDict({m.value: nn.Linear(w, d_k) for m, w in widths.items()})
        self.value = nn.ModuleDict({m.value: nn.Linear(w, d_k) for m, w in widths.items()})
        self.norm = nn.LayerNorm((len(widths), d_k))

    def forward(self, encodings: Mapping[Modality, Tensor], available: Tensor | None = None) -> Tensor:
        """Encodings (..., E_m) and `available` (..., M) bool to the feature (..., width)."""
        query, key, value = (
            self._project(layers, encodings) for layers in (self.query, self.key, self.value)
        )
        attention = self.norm(attend(query, key, value, available))
        return torch.cat([encodings[self.leading], attention.flatten(-2)], dim=-1)

    def _project(self, layers: nn.ModuleDict, encodings: Mapping[Modality, Tensor]) -> Tensor:
        return torch.stack([layers[m.value](encodings[m]) for m in self.modalities], dim=-2)


class StackedFusion(nn.Module):
    """Co-attention and linear head of S networks of one specification, run as one for serving."""

    def __init__(
        self,
        leading: Modality,
        eps: float,
        projections: Mapping[Modality, tuple[Tensor, Tensor]],
        norm: tuple[Tensor, Tensor],
        head: tuple[Tensor, Tensor],
    ) -> None:
        """Weights and biases with the networks in front: each modality's projection to query, key and value at once,
        (S, C, 3 * d_k) and (S, 1, 3 * d_k); the layer norm's, (S, 1, M, d_k) both; the head's, (S, width, K) and
        (S, 1, K). Kept as they are, not copied.
        """
        super().__init__()
        self.modalities, self.leading, self.eps = tuple(projections), leading, eps
        for m, (weight, bias) in projections.items():
            self.register_buffer(f"{m.value}_weight", weight)
            self.register_buffer(f"{m.value}_bias", bias)
        for name, (weight, bias) in (("norm", norm), ("head", head)):
            self.register_buffer(f"{name}_weight", weight)
            self.register_buffer(f"{name}_bias", bias)

    @classmethod
    def from_fusions(cls, fusions: Sequence[CoAttention], heads: Sequence[nn.Linear]) -> StackedFusion:
        """Of each network's co-attention and head."""
        projections: dict[Modality, tuple[Tensor, Tensor]] = {}
        for m in fusions[0].modalities:
            layers = [[part[m.value] for part in (f.query, f.key, f.value)] for f in fusions]
            weight = torch.stack([torch.cat([_weight(q) for q in three]).t() for three in layers])
            bias = torch.stack([torch.cat([_bias(q) for q in three]) for three in layers])
            projections[m] = (weight.contiguous(), bias.unsqueeze(1).contiguous())
        norm_weight = torch.stack([f.norm.weight.detach() for f in fusions]).unsqueeze(1)
        norm_bias = torch.stack([f.norm.bias.detach() for f in fusions]).unsqueeze(1)
        head_weight = torch.stack([h.weight.detach().t() for h in heads]).contiguous()
        head_bias = torch.stack([h.bias.detach() for h in heads]).unsqueeze(1)
        return cls(
            fusions[0].leading,
            fusions[0].norm.eps,
            projections,
            norm=(norm_weight, norm_bias),
            head=(head_weight, head_bias),
        )

    def first_networks(self, count: int) -> StackedFusion:
        """The first `count` networks' fusion and heads, sharing their tensors."""

        def cut(name: str) -> tuple[Tensor, Tensor]:
            return self.get_buffer(f"{name}_weight")[:count], self.get_buffer(f"{name}_bias")[:count]

        projections = {m: cut(m.value) for m in self.modalities}
        return StackedFusion(self.leading, self.eps, projections, norm=cut("norm"), head=cut("head"))

    def forward(self, encodings: Mapping[Modality, Tensor], available: Tensor | None = None) -> Tensor:
        """Encodings (S, N, E_m) and `available` (N, M) bool to estimates (S, N, K)."""
        projected = torch.stack(
            [
                torch.baddbmm(self.get_buffer(f"{m}_bias"), encodings[m], self.get_buffer(f"{m}_weight"))
                for m in self.modalities
            ],
            dim=2,
        )
        query, key, value = projected.chunk(3, dim=-1)
        attention = attend(query, key, value, available)
        attention = functional.layer_norm(attention, attention.shape[2:], eps=self.eps)
        attention = attention * self.get_buffer("norm_weight") + self.get_buffer("norm_bias")
        feature = torch.cat([encodings[self.leading], attention.flatten(2)], dim=2)
        return torch.baddbmm(self.get_buffer("head_bias"), feature, self.get_buffer("head_weight"))


def _weight(linear: nn.Module) -> Tensor:
    assert isinstance(linear, nn.Linear)
    return linear.weight.detach()


def _bias(linear: nn.Module) -> Tensor:
    assert isinstance(linear, nn.Linear)
    return linear.bias.detach()
