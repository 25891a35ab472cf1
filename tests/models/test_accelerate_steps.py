"""Temporal branches, fusion and heads as two functions: what the ensemble computes, whoever computes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import make_network, network_specs, random_embeddings, random_mask
from torch import Tensor

from models.accelerate import ArtifactCache, Route, Workshop
from models.accelerate.eager import run_eager
from models.accelerate.machine import has_package
from models.accelerate.route import Runner
from models.accelerate.steps import (
    StepRunners,
    Steps,
    build_steps,
    fusion_graph,
    run_through,
    senses_graph,
)
from models.ensemble import Ensemble
from models.leading import leading_folds, without_sight
from models.spec import COMPACT, Modality, NetworkSpec

FRAMES = 6


class Counted:
    """A runner that counts its calls."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.calls = 0

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        self.calls += 1
        return self._runner(*inputs)


def by_graphs(ensemble: Ensemble, frames: int) -> tuple[Steps, Counted, Counted]:
    """The two functions' graphs, run as a back-end would run them."""
    senses, fusion = Counted(run_eager(senses_graph(ensemble))), Counted(run_eager(fusion_graph(ensemble)))
    has_senses = bool(senses_graph(ensemble).branches)
    return Steps(ensemble, StepRunners(frames, senses if has_senses else None, fusion)), senses, fusion


def a_sequence(ensemble: Ensemble, seed: int) -> tuple[dict[Modality, Tensor], Tensor]:
    """Embeddings (S or 1, N, E), and masks (N, M) by which inputs come and go."""
    embeddings = random_embeddings(ensemble.spec, 1, FRAMES, seed=seed)
    visual = (
        torch.randn(ensemble.networks, FRAMES, embeddings[Modality.VISUAL].shape[-1])
        if Modality.VISUAL in embeddings
        else None
    )
    found = {m: x if m is not Modality.VISUAL or visual is None else visual for m, x in embeddings.items()}
    return found, random_mask(ensemble.spec, 1, FRAMES, seed=seed)[0]


def assert_same(ensemble: Ensemble, steps: Steps, frames: int, *, seed: int, atol: float = 1e-5) -> None:
    embeddings, available = a_sequence(ensemble, seed)
    with torch.inference_mode():
        expected = ensemble.run({m: x[:, None] for m, x in embeddings.items()}, None, available[None])[1]
        encodings, found = run_through(steps, ensemble, embeddings, available, frames)
    torch.testing.assert_close(found, expected[:, 0], atol=atol, rtol=1e-4)
    assert all(len(x) == ensemble.networks for x in encodings.values())


def networks_of(specs: Sequence[NetworkSpec]) -> Ensemble:
    return Ensemble([make_network(spec, seed) for seed, spec in enumerate(specs)])


@given(spec=network_specs(), frames=st.integers(1, 3), seed=st.integers(0, 99))
@settings(max_examples=25)
def test_eager_and_by_graphs_they_are_the_ensembles_run(spec: NetworkSpec, frames: int, seed: int) -> None:
    ensemble = networks_of([spec, spec])
    for steps in (Steps(ensemble), by_graphs(ensemble, frames)[0]):
        assert_same(ensemble, steps, frames, seed=seed)


def test_folds_may_differ_in_shape_and_in_what_they_have() -> None:
    blind = COMPACT.model_copy(update={"visual": None})
    ensemble = networks_of([COMPACT, blind, COMPACT])
    assert_same(ensemble, by_graphs(ensemble, 2)[0], 2, seed=1)


def test_only_the_number_of_frames_that_they_were_built_for_goes_by_runners() -> None:
    ensemble = networks_of([COMPACT, COMPACT])
    steps, senses, fusion = by_graphs(ensemble, 2)
    assert_same(ensemble, steps, 3, seed=2)
    assert (senses.calls, fusion.calls) == (0, 0)
    assert_same(ensemble, steps, 2, seed=2)
    assert (senses.calls, fusion.calls) == (3, 3)


def test_folds_at_work_while_others_rest_go_eagerly() -> None:
    ensemble = networks_of([COMPACT, COMPACT])
    few = leading_folds(ensemble, 1)
    steps, senses, _ = by_graphs(ensemble, 1)
    embeddings = {m: torch.randn(1, 1, 1, few.embedding(m)) for m in (Modality.VISUAL, Modality.AUDIO)}
    branches = {m: few.initial_state(m, 1) for m in embeddings}
    there = torch.ones(1, 1, dtype=torch.bool)
    _, encodings = steps.sense(few, embeddings, branches, dict.fromkeys(embeddings, there))
    assert senses.calls == 0
    for m, x in encodings.items():
        torch.testing.assert_close(x, few.run_branch(m, embeddings[m], branches[m], there)[1])


def test_what_every_network_shares_may_come_once() -> None:
    """A frame without a picture has one row of zeros, not one for each network."""
    ensemble = networks_of([COMPACT, COMPACT])
    embeddings = {m: torch.zeros(1, 1, 1, ensemble.embedding(m)) for m in (Modality.VISUAL, Modality.AUDIO)}
    branches = {m: ensemble.initial_state(m, 1) for m in embeddings}
    gone = dict.fromkeys(embeddings, torch.zeros(1, 1, dtype=torch.bool))
    expected, found = (
        s.sense(ensemble, embeddings, branches, gone)[1] for s in (Steps(ensemble), by_graphs(ensemble, 1)[0])
    )
    for m, x in expected.items():
        torch.testing.assert_close(found[m], x)


@pytest.mark.skipif(not has_package("openvino"), reason="openvino is not installed")
@pytest.mark.parametrize("frames", [1, 3])
def test_openvino_takes_both(frames: int, tmp_path: Path) -> None:
    ensemble = networks_of([COMPACT, COMPACT])
    for _ in range(2):  # made, and out of the cache
        runners = build_steps(ensemble, frames, Route("openvino"), Workshop(ArtifactCache(tmp_path)))
        assert_same(ensemble, Steps(ensemble, runners), frames, seed=3, atol=1e-4)
    assert len(list(tmp_path.iterdir())) == 2


def test_without_its_sight_an_ensemble_shares_its_tensors_and_takes_no_crops() -> None:
    ensemble = networks_of([COMPACT, COMPACT])
    small = without_sight(ensemble)
    own = {t.data_ptr() for t in ensemble.buffers()}
    assert all(t.data_ptr() in own for t in small.buffers())
    assert sum(t.numel() for t in small.buffers()) < sum(t.numel() for t in ensemble.buffers())
    with pytest.raises(ValueError, match=r"expected crops|no visual branch|trunk"):
        small.embed_visual(torch.zeros(1, 3, 1, 1))
