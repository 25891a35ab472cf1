"""Sets of folds drawn at random, inputs for them, and their estimates one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from models.networks.fold import EmotionNetwork
from models.networks.stacking import Fold
from models.spec import (
    TARGETS,
    AudioSpec,
    LanguageSpec,
    Modality,
    NetworkSpec,
    VggishSpec,
)
from tests.models.small_networks import (
    NORMED,
    make_network,
    network_specs,
    random_embeddings,
    random_mask,
    share_trunk,
    temporal_specs,
)

if TYPE_CHECKING:
    from models.networks.ensemble import Ensemble

SEEDS = st.integers(0, 10_000)


class Folds(list[Fold]):
    """Folds that a failing example shows by their specifications, not by their modules."""

    def __repr__(self) -> str:
        return repr([[n.spec for n in networks_of(fold)] for fold in self])


def networks_of(fold: Fold) -> list[EmotionNetwork]:
    return [fold] if isinstance(fold, EmotionNetwork) else list(fold)


def inputs(ensemble: Ensemble, batch: int, frames: int, seed: int) -> tuple[dict[str, Tensor], Tensor]:
    """What `forward` takes, and a mask with about a third missing."""
    found = random_embeddings(ensemble.spec, batch, frames, seed)
    given = {m.value: x for m, x in found.items() if m is not Modality.VISUAL}
    if ensemble.spec.visual is not None:
        size = ensemble.spec.visual.backbone.input_size
        generator = torch.Generator().manual_seed(seed)
        given["crops"] = torch.randn(batch, frames, 3, size, size, generator=generator)
    return given, random_mask(ensemble.spec, batch, frames, seed)


@torch.no_grad()
def one_by_one(
    folds: list[Fold], ensemble: Ensemble, given: dict[str, Tensor], mask: Tensor | None
) -> Tensor:
    """Every fold's networks run on their own, their outputs put in the order of `TARGETS`: (F, B, T, K)."""
    estimates = []
    for fold in folds:
        by_target: dict[str, Tensor] = {}
        for network in networks_of(fold):
            columns = [ensemble.modalities.index(m) for m in network.spec.modalities]
            own = {"crops" if m is Modality.VISUAL else m.value for m in network.spec.modalities}
            found = network.forward_crops(
                **{name: x for name, x in given.items() if name in own},
                available=None if mask is None else mask[..., columns],
            )
            by_target |= dict(zip(network.spec.targets, found.unbind(-1), strict=True))
        estimates.append(torch.stack([by_target[t] for t in ensemble.targets], dim=-1))
    return torch.stack(estimates)


def embedded(ensemble: Ensemble, given: dict[str, Tensor]) -> dict[Modality, Tensor]:
    """The embeddings (S or 1, B, T, E) of `forward`'s inputs."""
    found = {Modality(name): x.unsqueeze(0) for name, x in given.items() if name != "crops"}
    if "crops" in given:
        batch, frames = given["crops"].shape[:2]
        visual = ensemble.embed_visual(given["crops"].flatten(0, 1))
        found[Modality.VISUAL] = visual.unflatten(1, (batch, frames))  # type: ignore[no-untyped-call]
    return found


@st.composite
def fold_sets(draw: st.DrawFn) -> list[Fold]:
    """1 to 4 folds of one specification: joint ones or pairs, with a common trunk, two trunks or one each."""
    spec, seed = draw(network_specs()), draw(SEEDS)
    pairs = len(spec.targets) == 2 and draw(st.booleans())
    parts = [(t,) for t in spec.targets] if pairs else [spec.targets]
    folds = [
        [make_network(spec.model_copy(update={"targets": p}), seed + 10 * f + i) for i, p in enumerate(parts)]
        for f in range(draw(st.integers(1, 4)))
    ]
    networks = [n for fold in folds for n in fold]
    if spec.visual is not None:
        common = draw(st.integers(1, len(networks)))
        share_trunk(networks[:common])
    return Folds(fold if pairs else fold[0] for fold in folds)


@st.composite
def mixed_fold_sets(draw: st.DrawFn) -> list[Fold]:
    """2 to 4 folds of different shapes: widths, branches, targets per network; embeddings and crops agree."""
    first = draw(network_specs(visual=True))
    seed, audio, language = draw(SEEDS), draw(st.integers(1, 5)), draw(st.integers(1, 5))
    encoder = VggishSpec(widths=(1, 1, 1, 1, 1, 1), hidden=(1, 1), embedding=audio)

    def spec(targets: tuple[str, ...]) -> NetworkSpec:
        seen, heard, read = draw(st.tuples(st.booleans(), st.booleans(), st.booleans()).filter(any))
        other = draw(network_specs(visual=True)).visual
        assert other is not None
        assert first.visual is not None
        size = first.visual.backbone.input_size
        backbone = other.backbone.model_copy(update={"input_size": size})
        return NetworkSpec(
            visual=other.model_copy(update={"backbone": backbone}) if seen else None,
            audio=AudioSpec(encoder=encoder, temporal=draw(temporal_specs())) if heard else None,
            language=LanguageSpec(embedding=language, temporal=draw(temporal_specs())) if read else None,
            d_k=draw(NORMED),
            targets=targets,  # type: ignore[arg-type]
        )

    folds = Folds()
    for f in range(draw(st.integers(2, 4))):
        parts: list[tuple[Any, ...]] = draw(
            st.sampled_from([[TARGETS], [("arousal", "valence")], [("valence",), ("arousal",)]])
        )
        folds.append([make_network(spec(p), seed + 10 * f + i) for i, p in enumerate(parts)])
    return folds
