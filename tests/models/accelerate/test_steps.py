"""Temporal branches, fusion and heads as two functions: what the ensemble computes, whoever computes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.accelerate.backend import Backend, BuildContext, Runner
from models.accelerate.backends.eager import run_eager
from models.accelerate.cache import ArtifactCache
from models.accelerate.hardware import has_package
from models.accelerate.steps import (
    MOST_CALLS,
    StepOutputs,
    StepRunners,
    Steps,
    build_steps,
    fusion_graph,
    random_states,
    run_sequence,
    senses_graph,
)
from models.networks.ensemble import Ensemble, EnsembleState
from models.networks.subset import first_folds, narrow, steps_alone
from models.spec import COMPACT, Modality, NetworkSpec
from tests.models.small_networks import make_network, network_specs, random_embeddings, random_mask

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FRAMES = 6

BLIND = COMPACT.model_copy(update={"visual": None})
MUTE = COMPACT.model_copy(update={"audio": None, "language": None})
WORDS = COMPACT.model_copy(update={"visual": None, "audio": None})
VALENCE, AROUSAL = (COMPACT.model_copy(update={"targets": (t,)}) for t in ("valence", "arousal"))


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


def a_sequence(ensemble: Ensemble, seed: int, frames: int = FRAMES) -> tuple[dict[Modality, Tensor], Tensor]:
    """Embeddings (S or 1, N, E), and masks (N, M) by which inputs come and go."""
    generator = torch.Generator().manual_seed(seed)
    embeddings = random_embeddings(ensemble.spec, 1, frames, seed=seed)
    if Modality.VISUAL in embeddings:
        width = ensemble.embedding(Modality.VISUAL)
        embeddings[Modality.VISUAL] = torch.randn(ensemble.networks, frames, width, generator=generator)
    return embeddings, random_mask(ensemble.spec, 1, frames, seed=seed)[0]


@torch.inference_mode()
def passage(steps: Steps, ensemble: Ensemble, frames: int, *, seed: int, length: int = FRAMES) -> StepOutputs:
    embeddings, available = a_sequence(ensemble, seed, length)
    states = random_states(ensemble, torch.Generator().manual_seed(seed))
    return run_sequence(steps, ensemble, states, embeddings, available, frames)


def assert_close(found: StepOutputs, expected: StepOutputs, *, atol: float = 1e-5) -> None:
    for ours, theirs in zip(found.tensors, expected.tensors, strict=True):
        torch.testing.assert_close(ours, theirs, atol=atol, rtol=1e-4)


def networks_of(specs: Sequence[NetworkSpec]) -> Ensemble:
    return Ensemble.from_folds([make_network(spec, seed) for seed, spec in enumerate(specs)])


def pairs() -> Ensemble:
    """Two folds of a network for each target."""
    return Ensemble.from_folds([[make_network(VALENCE, i), make_network(AROUSAL, i + 9)] for i in range(2)])


@given(spec=network_specs(), frames=st.integers(1, 3), seed=st.integers(0, 99))
@settings(max_examples=25)
def test_eager_and_by_graphs_they_are_the_ensembles_run(spec: NetworkSpec, frames: int, seed: int) -> None:
    ensemble = networks_of([spec, spec])
    embeddings, available = a_sequence(ensemble, seed)
    state = EnsembleState(random_states(ensemble, torch.Generator().manual_seed(seed)))
    with torch.inference_mode():
        after, expected = ensemble.run({m: x[:, None] for m, x in embeddings.items()}, state, available[None])
    for steps in (Steps(ensemble), by_graphs(ensemble, frames)[0]):
        found = passage(steps, ensemble, frames, seed=seed)
        torch.testing.assert_close(found.estimates, expected[:, 0], atol=1e-5, rtol=1e-4)
        assert all(len(x) == ensemble.networks for x in found.encodings.values())
        pasts = StepOutputs({}, found.estimates, dict(after.branches)).tensors[1:]
        for ours, theirs in zip(found.tensors[1 + len(found.encodings) :], pasts, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_only_frames_that_they_were_built_for_go_by_runners() -> None:
    ensemble = networks_of([COMPACT, COMPACT])
    eager = Steps(ensemble)
    steps, senses, fusion = by_graphs(ensemble, 2)
    assert_close(passage(steps, ensemble, 3, seed=2), passage(eager, ensemble, 3, seed=2))
    assert (senses.calls, fusion.calls) == (0, 0)
    assert_close(passage(steps, ensemble, 2, seed=2), passage(eager, ensemble, 2, seed=2))
    assert (senses.calls, fusion.calls) == (3, 3)


@pytest.mark.parametrize(("length", "calls"), [(2 * MOST_CALLS, MOST_CALLS), (2 * MOST_CALLS + 2, 0)])
def test_a_few_times_as_many_go_by_as_many_calls_and_more_by_none(length: int, calls: int) -> None:
    ensemble = networks_of([COMPACT, COMPACT])
    steps, senses, fusion = by_graphs(ensemble, 2)
    found = passage(steps, ensemble, length, seed=2, length=length)
    assert (senses.calls, fusion.calls) == (calls, calls)
    assert_close(found, passage(Steps(ensemble), ensemble, length, seed=2, length=length))


@pytest.mark.parametrize("folds", [1, 2])
def test_folds_at_work_while_others_rest_go_by_the_same_runners(folds: int) -> None:
    ensemble = networks_of([COMPACT] * 3)
    few = first_folds(ensemble, folds)
    steps, senses, _ = by_graphs(ensemble, 1)
    visual = torch.randn(folds, 1, 1, few.embedding(Modality.VISUAL))
    embeddings = {
        Modality.VISUAL: visual,
        Modality.AUDIO: torch.randn(1, 1, 1, few.embedding(Modality.AUDIO)),
    }
    states = random_states(ensemble, torch.Generator().manual_seed(0))
    branches = {m: narrow(states[m], folds) for m in embeddings}
    there = torch.ones(1, 1, dtype=torch.bool)
    after, encodings = steps.sense(few, embeddings, branches, dict.fromkeys(embeddings, there))
    assert senses.calls == 1
    for m, x in encodings.items():
        state, expected = few.run_branch(m, embeddings[m], branches[m], there)
        torch.testing.assert_close(x, expected)
        for ours, theirs in zip(after[m].stacks, state.stacks, strict=True):
            assert ours is not None
            assert theirs is not None
            torch.testing.assert_close(ours.history, theirs.history)


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
class TestOpenvino:
    @pytest.mark.parametrize(
        "ensemble",
        [
            pytest.param(lambda: networks_of([COMPACT, COMPACT]), id="folds"),
            pytest.param(lambda: networks_of([COMPACT, BLIND, COMPACT]), id="a-blind-one"),
            pytest.param(lambda: networks_of([MUTE, MUTE]), id="sight-alone"),
            pytest.param(lambda: networks_of([WORDS, WORDS]), id="words-alone"),
            pytest.param(pairs, id="a-network-for-each-target"),
        ],
    )
    def test_it_takes_whatever_an_ensemble_may_be(self, ensemble: object) -> None:
        made: Ensemble = ensemble()  # type: ignore[operator]
        steps = Steps(made, build_steps(made, 2, Backend("openvino"), BuildContext()))
        assert_close(passage(steps, made, 2, seed=3), passage(Steps(made), made, 2, seed=3), atol=1e-4)

    def test_frame_by_frame_over_all_that_a_branch_remembers(self, tmp_path: Path) -> None:
        ensemble = networks_of([COMPACT, COMPACT])
        length = 1 + COMPACT.branch(Modality.VISUAL).temporal.receptive_field
        expected = passage(Steps(ensemble), ensemble, 1, seed=4, length=length)
        for _ in range(2):  # made, and out of the cache
            runners = build_steps(ensemble, 1, Backend("openvino"), BuildContext(ArtifactCache(tmp_path)))
            found = passage(Steps(ensemble, runners), ensemble, 1, seed=4, length=length)
            assert_close(found, expected, atol=1e-4)
        assert len(list(tmp_path.iterdir())) == 2

    def test_what_it_gave_stays_what_it_was(self) -> None:
        ensemble = networks_of([COMPACT, COMPACT])
        runners = build_steps(ensemble, 1, Backend("openvino"), BuildContext())
        graph = fusion_graph(ensemble)
        first = runners.fusion(*graph.example(1))
        kept = [x.clone() for x in first]
        runners.fusion(*(torch.rand_like(x) if x.is_floating_point() else x for x in graph.example(1)))
        assert all(torch.equal(a, b) for a, b in zip(first, kept, strict=True))


def test_the_steps_alone_share_tensors_have_no_others_and_take_no_crops() -> None:
    ensemble = networks_of([COMPACT, COMPACT])
    own = {t.data_ptr() for t in ensemble.buffers()}
    senses = steps_alone(ensemble, [Modality.VISUAL, Modality.AUDIO], fuses=False)
    words = steps_alone(ensemble, [Modality.LANGUAGE], fuses=True)
    for part in (senses, words):
        assert all(t.data_ptr() in own for t in part.buffers())
    assert not {t.data_ptr() for t in senses.buffers() if t.dim() == 3} & {
        t.data_ptr() for t in words.buffers() if t.dim() == 3
    }, "no weight is in both"
    with pytest.raises(ValueError, match="no visual branch"):
        senses.embed_visual(torch.zeros(1, 3, 40, 40))
