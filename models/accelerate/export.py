"""A bundle's parts as exporters and compilers take them: tensors in and out, plain layers, no branching on values.

Maps are channels-first and each network's layers are calls of their own: compilers merge a convolution, its
bias, activation and addition into one kernel in this form, and quantise it; the stacked form that serves
eagerly hides that from them. Every graph exports at fixed shapes (`torch.export`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.networks.ensemble import BranchState, Ensemble
from models.networks.subset import steps_alone
from models.networks.tcn import StackedTemporal, TemporalState
from models.spec import Modality
from models.text.embedder import sum_last_layers
from models.visual.stacked import ServedTrunk, StackedConv, StackedTail, StackedUnit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class UnitGraph(nn.Module):
    """One network's unit of a stack."""

    def __init__(self, unit: StackedUnit, index: int) -> None:
        super().__init__()
        self.stride = unit.stride
        self.scale = nn.Buffer(unit.scale[index].flatten().view(1, -1, 1, 1).clone())
        self.shift = nn.Buffer(unit.shift[index].flatten().view(1, -1, 1, 1).clone())
        self.slope = nn.Buffer(unit.slope[index].flatten().clone())
        self.first = _one_convolution(unit.first, index)
        self.second = _one_convolution(unit.second, index)
        self.shortcut = None if unit.shortcut is None else _one_convolution(unit.shortcut, index)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) to (N, width, H / stride, W / stride)."""
        y = self.second(functional.prelu(self.first(x * self.scale + self.shift), self.slope))
        if self.shortcut is not None:
            return y + self.shortcut(x)  # type: ignore[no-any-return]
        return y + (x if self.stride == 1 else functional.max_pool2d(x, 1, self.stride))  # type: ignore[no-any-return]


class TrunkGraph(nn.Module):
    """A shared trunk: crops (N, 3, S, S) to its feature map (N, C, H, W)."""

    weight: Tensor | None
    bias: Tensor | None

    def __init__(self, trunk: ServedTrunk) -> None:
        super().__init__()
        self.first = _one_convolution(trunk.first, 0)
        self.slope = nn.Buffer(trunk.slope.flatten().clone())
        self.units = nn.Sequential(*(UnitGraph(u, 0) for u in _as_units(trunk.units)))
        weight = None if trunk.weight is None else _channels_first(trunk.weight, _map_channels(trunk))
        self.register_buffer("weight", weight)
        self.register_buffer("bias", None if trunk.bias is None else trunk.bias.clone())

    def forward(self, crops: Tensor) -> Tensor:
        """Crops (N, 3, S, S) to (N, C, H, W), of one pixel where the trunk is a whole backbone."""
        y: Tensor = self.units(functional.prelu(self.first(crops), self.slope))
        if self.weight is None:
            return y
        return functional.linear(y.flatten(1), self.weight, self.bias)[:, :, None, None]


class TailGraph(nn.Module):
    """One network's own layers: a trunk's feature map (N, C, H, W) to embeddings (N, E) of unit length."""

    weight: Tensor | None
    bias: Tensor | None

    def __init__(self, tail: StackedTail, index: int) -> None:
        super().__init__()
        self.units = nn.Sequential(*(UnitGraph(u, index) for u in _as_units(tail.units)))
        weight = None if tail.weight is None else _channels_first(tail.weight[index], _map_channels(tail))
        self.register_buffer("weight", weight)
        self.register_buffer("bias", None if tail.bias is None else tail.bias[index, 0].clone())

    def forward(self, maps: Tensor) -> Tensor:
        """(N, C, H, W) to (N, E)."""
        x = self.units(maps).flatten(1)
        if self.weight is not None:
            x = functional.linear(x, self.weight, self.bias)
        return functional.normalize(x, dim=1)


class VisualGraph(nn.Module):
    """Crops (N, 3, S, S) to every network's visual embedding (S, N, E), as `Ensemble.embed_visual` gives them."""

    def __init__(self, ensemble: Ensemble) -> None:
        super().__init__()
        if not len(ensemble.trunks):
            raise ValueError("the ensemble has no visual branch")
        trunks = [t for t in ensemble.trunks if isinstance(t, ServedTrunk)]
        self.trunks = nn.ModuleList(TrunkGraph(t) for t in trunks)
        self.trunk_of = ensemble.layout.trunk_of
        self.width = ensemble.embedding(Modality.VISUAL)
        tails: dict[int, nn.Module] = {}
        for places, stack in zip(ensemble.layout.places, ensemble.stacks, strict=True):
            if isinstance(stack.tail, StackedTail):
                tails |= {i: TailGraph(stack.tail, position) for position, i in enumerate(places)}
        self.tails = nn.ModuleDict({str(i): tails[i] for i in sorted(tails)})

    def extra_repr(self) -> str:
        """What the tensors do not say, for the content hash."""
        return f"trunk_of={self.trunk_of}, width={self.width}"

    def forward(self, crops: Tensor) -> Tensor:
        """Crops (N, 3, S, S) to (S, N, E); zeros for a network without a visual branch."""
        maps = [trunk(crops) for trunk in self.trunks]
        found: list[Tensor] = []
        for i, trunk in enumerate(self.trunk_of):
            if trunk is None:
                found.append(crops.new_zeros(crops.shape[0], self.width))
                continue
            x = self.tails[str(i)](maps[trunk])
            found.append(x if x.shape[1] == self.width else functional.pad(x, (0, self.width - x.shape[1])))
        return torch.stack(found)


class TextGraph(nn.Module):
    """A BERT-family model: piece ids and mask (N, L) to the sum of its last four layers (N, L, E)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(N, L) int64 each to (N, L, E); what the mask leaves out is meaningless."""
        return sum_last_layers(self.model, ids, mask)


class StepGraph(nn.Module):
    """Some frames of one sequence through temporal branches and, where it `fuses`, fusion and heads.

    Inputs are masks, each of `branches`' embeddings (S or 1, 1, T, E), each of `others`' encodings (S, 1, T, C),
    then the branches' states as `flatten_state` orders them. Masks are (1, T, M) where it fuses, else (1, T) of each
    branch. Outputs are the estimates (F, 1, T, K), or else the branches' encodings, then the next states.
    """

    # Counted up when the computation changes though its tensors do not: what is in a cache is then built anew.
    FORM: Final = 1

    def __init__(self, ensemble: Ensemble, branches: Sequence[Modality], *, fuses: bool) -> None:
        super().__init__()
        self.ensemble = steps_alone(ensemble, branches, fuses=fuses)
        self.branches = tuple(branches)
        self.others = tuple(m for m in ensemble.modalities if m not in branches) if fuses else ()
        self.fuses = fuses
        self._embeddings = {m: ensemble.embedding(m) for m in branches}
        self._encodings = {m: ensemble.encoding(m) for m in self.others}
        self._states = {m: ensemble.initial_state(m, 1) for m in branches}

    def extra_repr(self) -> str:
        """What the tensors do not say, for the content hash."""
        specs = [module.spec for module in self.ensemble.modules() if isinstance(module, StackedTemporal)]
        shape = f"{self.ensemble.modalities}, {self.ensemble.layout}, {specs}"
        return f"form={self.FORM}, branches={self.branches}, fuses={self.fuses}, {shape}"

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Inputs and outputs as the class describes them."""
        rest = iter(inputs)
        if self.fuses:
            available = next(rest)
            columns = [available[..., self.ensemble.modalities.index(m)] for m in self.branches]
        else:
            columns = [next(rest) for _ in self.branches]
        embeddings = [next(rest) for _ in self.branches]
        encodings = {m: next(rest) for m in self.others}
        states = self.unflatten_state(tuple(rest))
        for m, column, x in zip(self.branches, columns, embeddings, strict=True):
            states[m], encodings[m] = self.ensemble.run_branch(m, x, states[m], column)
        if self.fuses:
            return (self.ensemble.fuse(encodings, available), *self.flatten_state(states))
        return (*(encodings[m] for m in self.branches), *self.flatten_state(states))

    def example(self, frames: int) -> tuple[Tensor, ...]:
        """Example inputs for so many frames: zeros, and the states before the first frame."""
        networks, count = self.ensemble.networks, len(self.ensemble.modalities)
        each = torch.ones(1, frames, dtype=torch.bool)
        masks = (
            (torch.ones(1, frames, count, dtype=torch.bool),) if self.fuses else (each,) * len(self.branches)
        )
        embeddings = (
            torch.zeros(networks if m is Modality.VISUAL else 1, 1, frames, width)
            for m, width in self._embeddings.items()
        )
        encodings = (torch.zeros(networks, 1, frames, width) for width in self._encodings.values())
        return (*masks, *embeddings, *encodings, *self.flatten_state(self._states))

    def flatten_state(self, states: Mapping[Modality, BranchState]) -> tuple[Tensor, ...]:
        """The branches' tensors: by modality, by stack, by convolution."""
        stacks = (s for m in self.branches for s in states[m].stacks if s is not None)
        return tuple(tensor for stack in stacks for tensor in stack.history)

    def unflatten_state(self, tensors: Sequence[Tensor]) -> dict[Modality, BranchState]:
        """The branches' states from their tensors, in the order of `flatten_state`."""
        rest = iter(tensors)
        return {
            m: BranchState(
                tuple(
                    None if s is None else TemporalState(tuple(next(rest) for _ in s.history))
                    for s in form.stacks
                )
            )
            for m, form in self._states.items()
        }


def _one_convolution(stacked: StackedConv, index: int) -> nn.Conv2d:
    """One network's convolution of a stack, whose weights are (S, out, k, k, in)."""
    weight = stacked.weight[index].permute(0, 3, 1, 2).contiguous()
    out, width, kernel, _ = weight.shape
    biased = stacked.bias is not None
    conv = nn.Conv2d(
        width, out, kernel, stride=stacked.stride, padding=kernel // 2, bias=biased, device="meta"
    )
    conv.weight = nn.Parameter(weight, requires_grad=False)
    if stacked.bias is not None:
        conv.bias = nn.Parameter(stacked.bias[index].clone(), requires_grad=False)
    return conv


def _as_units(units: nn.Sequential) -> list[StackedUnit]:
    return [u for u in units if isinstance(u, StackedUnit)]


def _channels_first(stacked: Tensor, channels: int) -> Tensor:
    """A linear layer's weight (H * W * C, E) over pixels as (E, C * H * W)."""
    pixels = stacked.shape[0] // channels
    return stacked.view(pixels, channels, stacked.shape[1]).permute(2, 1, 0).flatten(1).contiguous()


def _map_channels(stacked: ServedTrunk | StackedTail) -> int:
    """Channels of the last map."""
    last = _as_units(stacked.units)[-1]
    return last.second.weight.shape[1]
