"""All folds as one module, for serving: the shared trunk once, everything that differs stacked and batched.

Folds whose trunk tensors are identical (weights and batch-norm buffers, by content hash) share one trunk,
stored once and run once. Networks of one shape are stacked, so that each layer of all of them is one batched
operation. Folds may differ: in their trunks, in their shapes, in the modalities they have, and in being one
network for all targets or one network per target.

Sizes in this module: F folds, S networks in all (F of them, or 2 F where each fold is a pair of single-target
networks), B sequences, T frames, M modalities, K targets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.networks.fold import EmotionNetwork, complete
from models.networks.network_stack import NetworkStack
from models.networks.stacking import Fold, Layout, common_spec, common_targets, lay_out
from models.spec import Modality, NetworkSpec, Target
from models.visual.stacked import ServedTrunk

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from models.networks.tcn import TemporalState

_CROPS_AT_ONCE = 32


@dataclass(frozen=True, eq=False)
class BranchState:
    """One modality's temporal state in all networks: one entry per stack, None where a stack has no such branch."""

    stacks: tuple[TemporalState | None, ...]

    @property
    def networks(self) -> int:
        """How many networks have this branch."""
        return sum(len(stack.history[0]) for stack in self.stacks if stack is not None)


@dataclass(frozen=True, eq=False)
class EnsembleState:
    """The whole ensemble's temporal state. Never written to in place: keeping one is keeping a snapshot."""

    branches: Mapping[Modality, BranchState]


class Ensemble(nn.Module):
    """All folds as one: eval mode only, no gradients, deterministic."""

    def __init__(
        self,
        spec: NetworkSpec,
        layout: Layout,
        stacks: Iterable[NetworkStack],
        trunks: Iterable[ServedTrunk],
    ) -> None:
        """Of its parts: `layout` says in which of the `stacks` each network is, and on which of the `trunks`."""
        super().__init__()
        self._spec, self._layout = spec, layout
        self.stacks, self.trunks = nn.ModuleList(stacks), nn.ModuleList(trunks)
        self.eval().requires_grad_(False)

    @classmethod
    def from_folds(cls, members: Sequence[Fold]) -> Ensemble:
        """Of trained folds, stacked and their trunks shared.

        Raises UserError where folds do not belong together: targets that differ or overlap, sound or word
        embeddings of different widths, crops of different sizes.
        """
        folds = [[m] if isinstance(m, EmotionNetwork) else list(m) for m in members]
        networks = [n for fold in folds for n in fold]
        targets = common_targets(folds)
        layout = lay_out(folds, targets)
        trunks: dict[int, ServedTrunk] = {}
        for network, trunk in zip(networks, layout.trunk_of, strict=True):
            if trunk is not None and trunk not in trunks:
                assert network.backbone is not None
                trunks[trunk] = ServedTrunk(network.backbone)
        return cls(
            common_spec([n.spec for n in networks], targets),
            layout,
            (NetworkStack.from_networks([networks[i] for i in places]) for places in layout.places),
            trunks.values(),
        )

    @property
    def spec(self) -> NetworkSpec:
        """What goes in and comes out: each branch as the first network that has it describes it."""
        return self._spec

    @property
    def targets(self) -> tuple[Target, ...]:
        """The K targets in the order of the outputs' last dimension: that of `TARGETS`."""
        return self._spec.targets

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """The M modalities that any fold has, in the order of the `available` masks' last dimension."""
        return self._spec.modalities

    @property
    def folds(self) -> int:
        """F."""
        return self._layout.folds

    @property
    def networks(self) -> int:
        """S: the first dimension of visual embeddings and of encodings; F where each fold is one network."""
        return self._layout.networks

    @property
    def layout(self) -> Layout:
        """Which network is in which stack, on which trunk, and gives which fold its targets."""
        return self._layout

    def embedding(self, modality: Modality) -> int:
        """Width of one modality's embeddings: the widest visual one where backbones differ.

        Raises ValueError where no fold has such a branch.
        """
        self._spec.branch(modality)
        return max(s.branch(modality).in_width for s in self._network_stacks() if modality in s.modalities)

    def encoding(self, modality: Modality) -> int:
        """Width of one modality's encodings: the widest network's."""
        return max(s.encoding(modality) for s in self._network_stacks() if modality in s.modalities)

    def train(self, mode: bool = True) -> Ensemble:
        """Stay in eval mode: an ensemble only serves. Raises ValueError when asked to train."""
        if mode:
            raise ValueError("an ensemble only serves: train its networks one by one")
        super().train(False)
        return self

    @torch.no_grad()
    def trunk_features(self, crops: Tensor) -> tuple[Tensor, ...]:
        """Crops (N, 3, S, S) in normalised pixels to the feature map (N, C, H, W) of each distinct trunk."""
        if self._spec.visual is None or not len(self.trunks):
            raise ValueError("the ensemble has no visual branch")
        size = self._spec.visual.backbone.input_size
        if crops.dim() != 4 or crops.shape[1:] != (3, size, size):
            raise ValueError(f"expected crops (N, 3, {size}, {size}), got {tuple(crops.shape)}")
        return tuple(trunk(crops) for trunk in self.trunks)

    @torch.no_grad()
    def tail_embed(self, features: Sequence[Tensor]) -> Tensor:
        """The trunks' feature maps to visual embeddings (S, N, E) of unit length, padded with zeros to the widest."""
        parts: list[Tensor | None] = []
        for places, stack in zip(self._layout.places, self._network_stacks(), strict=True):
            maps = [features[t] for t in (self._layout.trunk_of[i] for i in places) if t is not None]
            parts.append(None if stack.tail is None else stack.tail(maps))
        return self._in_network_order(parts)

    @torch.no_grad()
    def embed_visual(self, crops: Tensor) -> Tensor:
        """Crops (N, 3, S, S) in normalised pixels to visual embeddings (S, N, E) of unit length."""
        if len(crops) <= _CROPS_AT_ONCE:
            return self.tail_embed(self.trunk_features(crops))
        chunks = [crops[i : i + _CROPS_AT_ONCE] for i in range(0, len(crops), _CROPS_AT_ONCE)]
        return torch.cat([self.tail_embed(self.trunk_features(chunk)) for chunk in chunks], dim=1)

    def initial_state(self, modality: Modality, batch: int) -> BranchState:
        """One branch's state before the first frame of `batch` sequences."""
        return BranchState(
            tuple(
                stack.branch(modality).initial_state(batch) if modality in stack.modalities else None
                for stack in self._network_stacks()
            )
        )

    def initial_states(self, batch: int) -> EnsembleState:
        """Every branch's state before the first frame of `batch` sequences."""
        return EnsembleState({m: self.initial_state(m, batch) for m in self.modalities})

    @torch.no_grad()
    def run_branch(
        self,
        modality: Modality,
        embeddings: Tensor,
        state: BranchState | None = None,
        available: Tensor | None = None,
    ) -> tuple[BranchState, Tensor]:
        """A chunk of one modality, from `state` (None: the beginning), to (next state, encodings (S, B, T,
        C)).

        `embeddings` are (S, B, T, E), or (1, B, T, E) where all networks share them; each network's
        normalisation is applied here. Where `available` (B, T) is False the normalised embedding is zero.
        Encodings are padded with zeros to the widest network's.
        """
        width = self.embedding(modality)
        shape = embeddings.shape
        if len(shape) != 4 or shape[0] not in (1, self.networks) or shape[3] != width:
            raise ValueError(
                f"expected {modality} embeddings ({self.networks} or 1, B, T, {width}), got {tuple(shape)}"
            )
        states: list[TemporalState | None] = []
        parts: list[Tensor | None] = []
        for i, (places, stack) in enumerate(zip(self._layout.places, self._network_stacks(), strict=True)):
            if modality not in stack.modalities:
                states.append(None)
                parts.append(None)
                continue
            x = embeddings
            if len(self._layout.places) > 1 and x.shape[0] > 1:
                x = x[list(places)]
            after, y = stack.run_branch(modality, x, None if state is None else state.stacks[i], available)
            states.append(after)
            parts.append(y)
        return BranchState(tuple(states)), self._in_network_order(parts)

    def step_branch(
        self, modality: Modality, embeddings: Tensor, state: BranchState, available: Tensor | None = None
    ) -> tuple[BranchState, Tensor]:
        """One frame of one modality: embeddings (S or 1, B, E), `available` (B,), to (next state, (S, B, C))."""
        mask = None if available is None else available.unsqueeze(1)
        state, encodings = self.run_branch(modality, embeddings.unsqueeze(2), state, mask)
        return state, encodings[:, :, 0]

    @torch.no_grad()
    def fuse(self, encodings: Mapping[Modality, Tensor], available: Tensor | None = None) -> Tensor:
        """Every modality's encodings (S, B, [T,] C) and `available` (B, [T,] M) bool to (F, B, [T,] K)."""
        lead = encodings[self.modalities[0]].shape[1:-1]
        mask = None if available is None else available.expand(*lead, -1).reshape(-1, len(self.modalities))
        outputs: list[Tensor] = []
        for places, stack in zip(self._layout.places, self._network_stacks(), strict=True):
            own = {m: encodings[m].flatten(1, -2) for m in stack.modalities}
            if len(self._layout.places) > 1:
                own = {m: x[list(places), :, : stack.encoding(m)] for m, x in own.items()}
            columns = [self.modalities.index(m) for m in stack.modalities]
            whole = mask is None or len(columns) == mask.shape[1]
            own_mask = mask if mask is None or whole else mask[:, columns]
            outputs.append(stack.fuse(own, own_mask))
        if self._layout.direct:
            return outputs[0].view(self.folds, *lead, len(self.targets))
        of_network = {
            i: outputs[s][j] for s, places in enumerate(self._layout.places) for j, i in enumerate(places)
        }
        stacked = [
            torch.stack([of_network[i][:, k] for i, k in fold], dim=-1) for fold in self._layout.sources
        ]
        return torch.stack(stacked).view(self.folds, *lead, len(self.targets))

    def run(
        self,
        embeddings: Mapping[Modality, Tensor],
        state: EnsembleState | None = None,
        available: Tensor | None = None,
    ) -> tuple[EnsembleState, Tensor]:
        """A chunk: embeddings (S or 1, B, T, E) and `available` (B, T, M) to (next state, estimates (F, B, T,
        K)).

        A modality without an entry is missing throughout.
        """
        embeddings, mask = complete({m: self.embedding(m) for m in self.modalities}, embeddings, None)
        if mask is not None:
            available = mask[0] if available is None else available & mask[0]
        branches: dict[Modality, BranchState] = {}
        encodings: dict[Modality, Tensor] = {}
        for i, m in enumerate(self.modalities):
            before = None if state is None else state.branches[m]
            own = None if available is None else available[..., i]
            branches[m], encodings[m] = self.run_branch(m, embeddings[m], before, own)
        return EnsembleState(branches), self.fuse(encodings, available)

    def step(
        self, state: EnsembleState, embeddings: Mapping[Modality, Tensor], available: Tensor | None = None
    ) -> tuple[EnsembleState, Tensor]:
        """One frame: embeddings (S or 1, B, E) and `available` (B, M) to (next state, estimates (F, B, K))."""
        frames = {m: x.unsqueeze(2) for m, x in embeddings.items()}
        state, y = self.run(frames, state, None if available is None else available.unsqueeze(1))
        return state, y[:, :, 0]

    def forward(
        self,
        crops: Tensor | None = None,
        audio: Tensor | None = None,
        language: Tensor | None = None,
        available: Tensor | None = None,
    ) -> Tensor:
        """A window: crops (B, T, 3, S, S), embeddings (B, T, E), `available` (B, T, M), to (F, B, T, K).

        An input that is None is missing.
        """
        given: dict[Modality, Tensor] = {}
        if crops is not None:
            batch, frames = crops.shape[:2]
            visual = self.embed_visual(crops.flatten(0, 1))
            given[Modality.VISUAL] = visual.view(self.networks, batch, frames, -1)
        for m, x in ((Modality.AUDIO, audio), (Modality.LANGUAGE, language)):
            if x is not None:
                given[m] = x.unsqueeze(0)
        return self.run(given, None, available)[1]

    def _network_stacks(self) -> list[NetworkStack]:
        return [stack for stack in self.stacks if isinstance(stack, NetworkStack)]

    def _in_network_order(self, parts: Sequence[Tensor | None]) -> Tensor:
        """Each stack's (own networks, ..., C) to (S, ..., widest C) in the networks' order."""
        found = [p for p in parts if p is not None]
        if len(parts) == 1:
            return found[0]
        widest = max(p.shape[-1] for p in found)
        whole = found[0].new_zeros(self.networks, *found[0].shape[1:-1], widest)
        for places, part in zip(self._layout.places, parts, strict=True):
            if part is not None:
                whole[list(places)] = functional.pad(part, (0, widest - part.shape[-1]))
        return whole
