"""The parts' exportable forms: equal to what they stand for, and exported at fixed shapes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from models.accelerate.export import StepGraph, TextGraph, VisualGraph
from models.accelerate.steps import fusion_graph, senses_graph
from models.audio.vggish import Vggish
from models.networks.ensemble import Ensemble
from models.spec import COMPACT, PAPER, NetworkSpec, Target
from tests.models.small_networks import (
    make_network,
    network_specs,
    random_embeddings,
    random_mask,
    share_trunk,
)


def bert(layers: int = 4, width: int = 48) -> nn.Module:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=64,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=2 * width,
        max_position_embeddings=80,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: nn.Module = BertModel(config, add_pooling_layer=False).eval().requires_grad_(False)
    return model


def ensemble_of(spec: NetworkSpec, folds: int = 2) -> Ensemble:
    networks = [make_network(spec, seed) for seed in range(folds)]
    if spec.visual is not None:
        share_trunk(networks)
    return Ensemble.from_folds(networks)


def crops_for(ensemble: Ensemble, count: int) -> Tensor:
    assert ensemble.spec.visual is not None
    size = ensemble.spec.visual.backbone.input_size
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(3))


def exported(module: nn.Module, *example: Tensor) -> tuple[Tensor, ...]:
    """Export at the example's shapes, and run what was exported."""
    program = torch.export.export(module.eval(), example)
    assert not program.range_constraints, "a shape was left open"
    with torch.no_grad():
        found = program.module()(*example)
    return (found,) if isinstance(found, Tensor) else tuple(found)


class TestVisual:
    @given(spec=network_specs(visual=True), frames=st.integers(1, 9), seed=st.integers(0, 99))
    @settings(max_examples=15)
    def test_it_is_what_the_ensemble_embeds(self, spec: NetworkSpec, frames: int, seed: int) -> None:
        networks = [make_network(spec, seed), make_network(spec, seed + 1)]
        ensemble = Ensemble.from_folds(networks)
        crops = crops_for(ensemble, frames)
        with torch.no_grad():
            found = VisualGraph(ensemble)(crops)
        torch.testing.assert_close(found, ensemble.embed_visual(crops), atol=2e-5, rtol=1e-4)

    def test_networks_keep_their_order_where_shapes_trunks_and_branches_differ(self) -> None:
        small = COMPACT.model_copy(
            update={"visual": COMPACT.visual.model_copy(update={"backbone": _wider()})}  # type: ignore[union-attr]
        )
        blind = COMPACT.model_copy(update={"visual": None})
        networks = [make_network(s, i) for i, s in enumerate((COMPACT, small, blind, COMPACT))]
        ensemble = Ensemble.from_folds(networks)
        crops = crops_for(ensemble, 3)
        with torch.no_grad():
            found = VisualGraph(ensemble)(crops)
        torch.testing.assert_close(found, ensemble.embed_visual(crops), atol=2e-5, rtol=1e-4)

    def test_an_ensemble_without_sight_is_refused(self) -> None:
        ensemble = ensemble_of(COMPACT.model_copy(update={"visual": None}))
        with pytest.raises(ValueError, match="no visual branch"):
            VisualGraph(ensemble)


def _wider() -> object:
    assert COMPACT.visual is not None
    return COMPACT.visual.backbone.model_copy(update={"embedding": 80})


class TestStep:
    @pytest.mark.parametrize("targets", [("valence", "arousal"), ("arousal",)])
    @pytest.mark.parametrize("frames", [1, 2])
    def test_it_is_the_ensembles_run(self, targets: tuple[Target, ...], frames: int) -> None:
        ensemble = ensemble_of(COMPACT.model_copy(update={"targets": targets}))
        step = StepGraph(ensemble, ensemble.modalities, fuses=True)
        embeddings = random_embeddings(ensemble.spec, 1, 4, seed=5)
        mask = random_mask(ensemble.spec, 1, 4, seed=6)
        state = ensemble.initial_states(1)
        flat = step.flatten_state(state.branches)
        for t in range(0, 4, frames):
            now = slice(t, t + frames)
            given_now = {m: x[None, :, now] for m, x in embeddings.items()}
            state, expected = ensemble.run(given_now, state, mask[:, now])
            estimates, *rest = step(mask[:, now], *(given_now[m] for m in step.branches), *flat)
            flat = tuple(rest)
            torch.testing.assert_close(estimates, expected)


class TestExport:
    """Fixed shapes, nothing decided by values: what TensorRT and CUDA graphs need."""

    @pytest.mark.parametrize(
        "spec", [COMPACT, pytest.param(PAPER, marks=pytest.mark.slow)], ids=["compact", "paper"]
    )
    @pytest.mark.parametrize("batch", [1, 4])
    def test_sight(self, spec: NetworkSpec, batch: int) -> None:
        ensemble = ensemble_of(spec)
        crops = crops_for(ensemble, batch)
        (found,) = exported(VisualGraph(ensemble), crops)
        torch.testing.assert_close(found, ensemble.embed_visual(crops), atol=2e-5, rtol=1e-4)

    @pytest.mark.parametrize(
        "spec", [COMPACT, pytest.param(PAPER, marks=pytest.mark.slow)], ids=["compact", "paper"]
    )
    def test_sound(self, spec: NetworkSpec) -> None:
        assert spec.audio is not None
        encoder = Vggish(spec.audio.encoder).eval()
        patches = torch.randn(2, 96, 64)
        (found,) = exported(encoder, patches)
        with torch.no_grad():
            torch.testing.assert_close(found, encoder(patches))

    @pytest.mark.parametrize(
        ("layers", "width"), [(4, 48), pytest.param(12, 768, marks=pytest.mark.slow)], ids=["small", "base"]
    )
    def test_words(self, layers: int, width: int) -> None:
        graph = TextGraph(bert(layers, width)).eval()
        ids = torch.arange(16)[None] % 60
        mask = torch.ones_like(ids)
        mask[:, 11:] = 0
        (found,) = exported(graph, ids, mask)
        with torch.no_grad():
            torch.testing.assert_close(found[:, :11], graph(ids, mask)[:, :11], atol=1e-4, rtol=1e-4)

    @pytest.mark.parametrize(
        "spec", [COMPACT, pytest.param(PAPER, marks=pytest.mark.slow)], ids=["compact", "paper"]
    )
    def test_one_frame_through_temporal_branches_fusion_and_head(self, spec: NetworkSpec) -> None:
        ensemble = ensemble_of(spec)
        for step in (senses_graph(ensemble), fusion_graph(ensemble)):
            inputs = [torch.rand_like(x) if x.is_floating_point() else x for x in step.example(1)]
            found = exported(step, *inputs)
            for one, other in zip(found, step(*inputs), strict=True):
                torch.testing.assert_close(one, other)
