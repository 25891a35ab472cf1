"""Random small specifications and networks for laws that hold for every specification."""

from __future__ import annotations

from itertools import pairwise

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from models.networks.fold import EmotionNetwork
from models.spec import (
    TARGETS,
    AudioSpec,
    BackboneSpec,
    LanguageSpec,
    Modality,
    NetworkSpec,
    TemporalSpec,
    VggishSpec,
    VisualSpec,
)

WIDTHS = st.integers(1, 6)
# A norm over two or three numbers turns a rounding error into a large one: no law within 1e-5 could hold.
NORMED = st.integers(4, 8)


@st.composite
def temporal_specs(draw: st.DrawFn) -> TemporalSpec:
    widths = draw(st.lists(WIDTHS, min_size=1, max_size=3))
    return TemporalSpec(widths=tuple(widths), kernel=draw(st.integers(2, 4)), dropout=0.1)


@st.composite
def backbone_specs(draw: st.DrawFn) -> BackboneSpec:
    third = draw(st.integers(1, 2))
    frozen = draw(st.booleans())
    return BackboneSpec(
        input_size=draw(st.sampled_from([8, 16])),
        widths=draw(st.tuples(WIDTHS, WIDTHS, WIDTHS, WIDTHS)),
        units=(1, draw(st.integers(1, 2)), third, 1),
        embedding=draw(NORMED),
        released_units=0 if frozen else draw(st.integers(0, third)),
        frozen=frozen,
    )


@st.composite
def network_specs(draw: st.DrawFn, visual: bool | None = None) -> NetworkSpec:
    """Any one, two or three branches; `visual` says whether the visual one must or must not be there."""
    present = draw(st.tuples(st.booleans(), st.booleans(), st.booleans()).filter(any))
    seen = present[0] if visual is None else visual
    encoder = VggishSpec(widths=(1, 1, 1, 1, 1, 1), hidden=(1, 1), embedding=draw(WIDTHS))
    audio = AudioSpec(encoder=encoder, temporal=draw(temporal_specs()))
    language = LanguageSpec(embedding=draw(WIDTHS), temporal=draw(temporal_specs()))
    return NetworkSpec(
        visual=VisualSpec(backbone=draw(backbone_specs()), temporal=draw(temporal_specs())) if seen else None,
        audio=audio if present[1] or not (seen or present[2]) else None,
        language=language if present[2] else None,
        d_k=draw(NORMED),
        targets=draw(st.sampled_from([TARGETS, ("arousal", "valence"), ("valence",), ("arousal",)])),
    )


def randomise(module: nn.Module, seed: int) -> None:
    """Give every batch-norm statistic, scale, offset and slope a value of its own, as training would; eval mode."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(like: Tensor, low: float, high: float) -> Tensor:
        return torch.rand(like.shape, generator=generator) * (high - low) + low

    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
                assert part.running_mean is not None
                assert part.running_var is not None
                part.running_mean.copy_(uniform(part.running_mean, -0.3, 0.3))
                part.running_var.copy_(uniform(part.running_var, 0.5, 1.5))
            if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d | nn.LayerNorm):
                part.weight.copy_(uniform(part.weight, 0.5, 1.5))
                part.bias.copy_(uniform(part.bias, -0.3, 0.3))
            if isinstance(part, nn.PReLU):
                part.weight.copy_(uniform(part.weight, -0.2, 1.2))
    module.eval()


def make_network(spec: NetworkSpec, seed: int) -> EmotionNetwork:
    """A network as if trained: nothing left at its starting value, a normalisation of its own, eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = EmotionNetwork(spec)
    randomise(network, seed)
    for i, modality in enumerate(m for m in spec.modalities if m is not Modality.VISUAL):
        network.set_normalisation(modality, 0.3 * i - 0.1 * (seed % 5), 0.7 + 0.2 * (seed % 3))
    return network


def share_trunk(networks: list[EmotionNetwork]) -> None:
    """Give all networks the first one's trunk, as training does that never releases it."""
    first = networks[0].backbone
    assert first is not None
    for network in networks[1:]:
        assert network.backbone is not None
        network.backbone.groups()["trunk"].load_state_dict(first.groups()["trunk"].state_dict())


def random_embeddings(spec: NetworkSpec, batch: int, frames: int, seed: int) -> dict[Modality, Tensor]:
    """Embeddings (B, T, E) of every modality."""
    generator = torch.Generator().manual_seed(seed)
    return {
        m: torch.randn(batch, frames, spec.branch(m).embedding, generator=generator) for m in spec.modalities
    }


def random_mask(spec: NetworkSpec, batch: int, frames: int, seed: int) -> Tensor:
    """Which modality is there at which frame (B, T, M): about a third are not."""
    generator = torch.Generator().manual_seed(seed + 1)
    return torch.rand(batch, frames, len(spec.modalities), generator=generator) > 0.35


def cuts(frames: int) -> st.SearchStrategy[list[int]]:
    """Lengths, zero among them, of chunks that make up `frames` frames."""
    places = st.lists(st.integers(0, frames), max_size=5).map(lambda found: [0, *sorted(found), frames])
    return places.map(lambda at: [b - a for a, b in pairwise(at)])
