"""Networks of one shape, stacked so that each layer of all of them is one batched operation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from models.networks.fusion import StackedFusion
from models.networks.tcn import StackedTemporal, TemporalState
from models.spec import Modality
from models.visual.stacked import StackedTail

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from models.networks.fold import EmotionNetwork


class NetworkStack(nn.Module):
    """S networks of one specification, for serving.

    `modalities` are the networks' own, whichever of their `temporal` branches are here. The `tail` (of the backbone)
    is None without a visual branch; it and `fusion` are None too where only some of the steps are computed.
    """

    def __init__(
        self,
        encodings: Mapping[Modality, int],
        normalisation: Mapping[Modality, tuple[Tensor, Tensor]],
        temporal: Mapping[Modality, StackedTemporal],
        fusion: StackedFusion | None,
        tail: StackedTail | None,
    ) -> None:
        """`encodings` are the widths after each modality's branch, `normalisation` the means and standard deviations
        of each one's embeddings, (S, 1, 1, 1) both. Tensors are kept as they are, not copied.
        """
        super().__init__()
        self.modalities = tuple(encodings)
        self._encodings = dict(encodings)
        self.tail = tail
        self.temporal = nn.ModuleDict({m.value: branch for m, branch in temporal.items()})
        self.fusion = fusion
        for m, (mean, std) in normalisation.items():
            self.register_buffer(f"{m.value}_mean", mean)
            self.register_buffer(f"{m.value}_std", std)

    @classmethod
    def from_networks(cls, networks: Sequence[EmotionNetwork]) -> NetworkStack:
        """Of networks of one specification."""
        modalities = networks[0].spec.modalities
        normalisation: dict[Modality, tuple[Tensor, Tensor]] = {}
        for m in modalities:
            values = torch.tensor([n.normalisation[m] for n in networks])
            mean, std = (values[:, i].clone().view(-1, 1, 1, 1) for i in range(2))
            normalisation[m] = (mean, std)
        backbones = [n.backbone for n in networks if n.backbone is not None]
        return cls(
            {m: networks[0].branch(m).spec.encoding for m in modalities},
            normalisation,
            {m: StackedTemporal.from_branches([n.branch(m) for n in networks]) for m in modalities},
            StackedFusion.from_fusions([n.fusion for n in networks], [n.head for n in networks]),
            StackedTail.from_backbones(backbones) if backbones else None,
        )

    def first_networks(self, count: int) -> NetworkStack:
        """The first `count` networks, sharing their tensors."""
        return NetworkStack(
            self._encodings,
            {m: (mean[:count], std[:count]) for m, (mean, std) in self._normalisation().items()},
            {m: branch.first_networks(count) for m, branch in self._branches().items()},
            None if self.fusion is None else self.fusion.first_networks(count),
            None if self.tail is None else self.tail.first_networks(count),
        )

    def steps_alone(self, branches: Collection[Modality], *, fuses: bool) -> NetworkStack:
        """The temporal branches of some modalities and, where it `fuses`, fusion and heads; the same modules."""
        return NetworkStack(
            self._encodings,
            self._normalisation(),
            {m: branch for m, branch in self._branches().items() if m in branches},
            self.fusion if fuses else None,
            None,
        )

    def branch(self, modality: Modality) -> StackedTemporal:
        """One modality's temporal branches."""
        found = self.temporal[modality.value]
        assert isinstance(found, StackedTemporal)
        return found

    def encoding(self, modality: Modality) -> int:
        """Width of one modality's encodings."""
        return self._encodings[modality]

    def run_branch(
        self, modality: Modality, embeddings: Tensor, state: TemporalState | None, available: Tensor | None
    ) -> tuple[TemporalState, Tensor]:
        """A chunk (S or 1, B, T, E), wider than the branch at most, to (next state, encodings (S, B, T, C)).

        Embeddings are normalised first, and zero where `available` (B, T) is False.
        """
        branch = self.branch(modality)
        x = embeddings[..., : branch.in_width] - self.get_buffer(f"{modality.value}_mean")
        x = x / self.get_buffer(f"{modality.value}_std")
        if available is not None:
            x = x.masked_fill(~available.unsqueeze(-1), 0.0)
        return branch.run(x, state)

    def fuse(self, encodings: Mapping[Modality, Tensor], available: Tensor | None) -> Tensor:
        """Encodings (S, N, C) and `available` (N, M) to estimates (S, N, K)."""
        assert self.fusion is not None
        estimates: Tensor = self.fusion(encodings, available)
        return estimates

    def _branches(self) -> dict[Modality, StackedTemporal]:
        return {Modality(name): self.branch(Modality(name)) for name in self.temporal}

    def _normalisation(self) -> dict[Modality, tuple[Tensor, Tensor]]:
        return {
            m: (self.get_buffer(f"{m.value}_mean"), self.get_buffer(f"{m.value}_std"))
            for m in self.modalities
        }
