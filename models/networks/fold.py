"""The network of one fold: a backbone, a TCN per modality, co-attention, one linear head (report section 2).

Sound and words enter as embeddings: VGGish and the text encoder are never fine-tuned and serve all folds.
Each embedding is normalised by one scalar mean and standard deviation per modality, taken over the fold's
training part (report section 3.4); they are facts of the fold, kept in its bundle's manifest and not among
the weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from models.networks.fusion import CoAttention
from models.networks.tcn import TemporalBranch, TemporalState
from models.spec import Modality, NetworkSpec
from models.visual.backbone import Backbone

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, eq=False)
class NetworkState:
    """Every branch's temporal state."""

    branches: Mapping[Modality, TemporalState]


class EmotionNetwork(nn.Module):
    """One fold's network: embeddings of each modality to estimates of `spec.targets`, K of them.

    Weights start deterministically under `torch.manual_seed`. M is the number of `spec.modalities`, in that
    order in every `available` mask. A missing modality's normalised embedding is zero, it has no key and a
    zero value in the attention; a frame without a face is not a missing modality but the zero crop.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec = spec
        self.backbone = Backbone(spec.visual.backbone) if spec.visual is not None else None
        branches = {m: spec.branch(m) for m in spec.modalities}
        self.temporal = nn.ModuleDict(
            {m.value: TemporalBranch(b.temporal, b.embedding) for m, b in branches.items()}
        )
        widths = {m: b.temporal.encoding for m, b in branches.items()}
        self.fusion = CoAttention(widths, spec.leading, spec.d_k)
        self.head = nn.Linear(self.fusion.width, len(spec.targets))
        for m in spec.modalities:
            self.register_buffer(f"{m.value}_mean", torch.tensor(0.0), persistent=False)
            self.register_buffer(f"{m.value}_std", torch.tensor(1.0), persistent=False)

    def set_normalisation(self, modality: Modality, mean: float, std: float) -> None:
        """Set the scalar mean and standard deviation of one modality's embeddings.

        Raises ValueError for a modality that the network has not, or for a `std` that is not positive and
        finite.
        """
        self.spec.branch(modality)
        values = torch.tensor([mean, std])
        if not bool(torch.isfinite(values).all()) or std <= 0:
            raise ValueError(
                f"{modality.value} cannot be normalised by mean {mean} and standard deviation {std}"
            )
        self.get_buffer(f"{modality.value}_mean").fill_(mean)
        self.get_buffer(f"{modality.value}_std").fill_(std)

    @property
    def normalisation(self) -> dict[Modality, tuple[float, float]]:
        """(mean, standard deviation) of each modality; (0, 1) where none was set."""
        return {
            m: (float(self.get_buffer(f"{m.value}_mean")), float(self.get_buffer(f"{m.value}_std")))
            for m in self.spec.modalities
        }

    def branch(self, modality: Modality) -> TemporalBranch:
        """One modality's TCN."""
        found = self.temporal[modality.value]
        assert isinstance(found, TemporalBranch)
        return found

    def normalise(self, modality: Modality, embeddings: Tensor, available: Tensor | None = None) -> Tensor:
        """Embeddings (..., E) to what the TCN sees; zero where `available` (...) is False."""
        mean, std = (self.get_buffer(f"{modality.value}_{part}") for part in ("mean", "std"))
        normalised = (embeddings - mean) / std
        if available is not None:
            normalised = normalised.masked_fill(~available.unsqueeze(-1), 0.0)
        return normalised

    def embed_visual(self, crops: Tensor) -> Tensor:
        """Crops (..., 3, S, S) in normalised pixels to embeddings (..., E) of unit length."""
        if self.backbone is None:
            raise ValueError("the network has no visual branch")
        lead = crops.shape[:-3]
        embeddings: Tensor = self.backbone(crops.flatten(0, -4))
        return embeddings.view(*lead, -1)

    def initial_state(self, batch: int) -> NetworkState:
        """The state before the first frame of `batch` sequences."""
        return NetworkState({m: self.branch(m).initial_state(batch) for m in self.spec.modalities})

    def run(
        self,
        embeddings: Mapping[Modality, Tensor],
        state: NetworkState | None = None,
        available: Tensor | None = None,
    ) -> tuple[NetworkState, Tensor]:
        """A chunk: embeddings (B, T, E_m) and `available` (B, T, M) bool to (next state, estimates (B, T,
        K)).

        A modality without an entry is missing throughout. `state` None is the beginning.
        """
        widths = {m: self.spec.branch(m).embedding for m in self.spec.modalities}
        embeddings, available = complete(widths, embeddings, available)
        branches: dict[Modality, TemporalState] = {}
        encodings: dict[Modality, Tensor] = {}
        for i, m in enumerate(self.spec.modalities):
            mask = None if available is None else available[..., i]
            x = self.normalise(m, embeddings[m], mask)
            branches[m], encodings[m] = self.branch(m).run(x, None if state is None else state.branches[m])
        return NetworkState(branches), self.head(self.fusion(encodings, available))

    def step(
        self, state: NetworkState, embeddings: Mapping[Modality, Tensor], available: Tensor | None = None
    ) -> tuple[NetworkState, Tensor]:
        """One frame: embeddings (B, E_m) and `available` (B, M) bool to (next state, estimates (B, K))."""
        frames = {m: x.unsqueeze(1) for m, x in embeddings.items()}
        state, y = self.run(frames, state, None if available is None else available.unsqueeze(1))
        return state, y[:, 0]

    def forward(self, embeddings: Mapping[Modality, Tensor], available: Tensor | None = None) -> Tensor:
        """A window: embeddings (B, T, E_m) and `available` (B, T, M) bool to estimates (B, T, K)."""
        return self.run(embeddings, None, available)[1]

    def forward_crops(
        self,
        crops: Tensor | None = None,
        audio: Tensor | None = None,
        language: Tensor | None = None,
        available: Tensor | None = None,
    ) -> Tensor:
        """A window from crops (B, T, 3, S, S) and embeddings (B, T, E) to estimates (B, T, K); None is missing."""
        given = {Modality.AUDIO: audio, Modality.LANGUAGE: language}
        if crops is not None:
            given[Modality.VISUAL] = self.embed_visual(crops)
        return self.run({m: x for m, x in given.items() if x is not None}, None, available)[1]


def complete(
    widths: Mapping[Modality, int], embeddings: Mapping[Modality, Tensor], available: Tensor | None
) -> tuple[dict[Modality, Tensor], Tensor | None]:
    """Fill modalities that were not given with zeros and mark them missing.

    `widths` gives every modality's embedding width, in fusion's order; embeddings are (..., E_m), `available`
    (..., M). Raises ValueError where none is given, or one that there is no branch for.
    """
    unknown = [m.value for m in embeddings if m not in widths]
    if unknown:
        raise ValueError(f"the network has no branch for {', '.join(unknown)}")
    if not embeddings:
        raise ValueError("no embeddings given: at least one modality says how many frames there are")
    if len(embeddings) == len(widths):
        return dict(embeddings), available
    like = next(iter(embeddings.values()))
    frames = like.shape[:-1]
    given = torch.tensor([m in embeddings for m in widths], device=like.device)
    available = given.expand(*frames, len(given)) if available is None else available & given
    return {
        m: embeddings[m] if m in embeddings else like.new_zeros(*frames, width) for m, width in widths.items()
    }, available
