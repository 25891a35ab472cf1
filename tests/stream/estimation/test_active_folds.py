"""Folds rest and return: the others serve meanwhile, and what returns is exact."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.accelerate.backends.eager import run_eager
from models.accelerate.select import Preference, serve
from models.accelerate.steps import StepRunners, Steps, fusion_graph, senses_graph
from models.centering import RunningCentering, state_of_first
from models.networks.subset import first_folds, narrow, widen
from models.spec import Modality
from models.speech.words import EVERYTHING_SETTLED
from stream.estimation.active_folds import ActiveFolds, next_active_folds
from stream.estimation.batching import Moment
from stream.estimation.estimates import RETURNING
from stream.estimation.estimator import Estimator
from stream.flow.ladder import FULL, Rung
from stream.perception.features import Availability, FrameFeatures
from tests.stream.scripted import (
    small_bundle,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.bundle.load import Bundle
    from stream.messages import Estimate


FEW = Rung("few", fold_share=0.5)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return small_bundle(tmp_path_factory.mktemp("bundles") / "small", folds=4)


# Folds that rest and return


def test_the_first_folds_are_the_ensembles_own(bundle: Bundle) -> None:
    crops = torch.rand(2, 5, 3, 40, 40) * 2 - 1
    audio, language = torch.randn(2, 5, 4), torch.randn(2, 5, 4)
    whole = bundle.ensemble(crops, audio, language)
    for folds in range(1, 5):
        few = first_folds(bundle.ensemble, folds)
        assert few.folds == folds
        assert torch.allclose(few(crops, audio, language), whole[:folds], atol=1e-6)
    ours = {t.data_ptr() for t in bundle.ensemble.buffers()}
    assert {t.data_ptr() for t in first_folds(bundle.ensemble, 2).buffers()} <= ours, "nothing is copied"
    with pytest.raises(ValueError, match="5 of them"):
        first_folds(bundle.ensemble, 5)


def test_states_are_narrowed_and_widened_by_networks(bundle: Bundle) -> None:
    ensemble, few = bundle.ensemble, first_folds(bundle.ensemble, 2)
    x = torch.randn(1, 1, 9, 4)
    state, _ = ensemble.run_branch(Modality.AUDIO, x)
    narrowed = narrow(state, few.networks)
    expected, y = few.run_branch(Modality.AUDIO, x[:, :, :3], narrowed)
    _, whole = ensemble.run_branch(Modality.AUDIO, x[:, :, :3], state)
    assert torch.allclose(y, whole[:2], atol=1e-6)
    widened = widen(expected, ensemble.initial_state(Modality.AUDIO, 1))
    _, again = ensemble.run_branch(Modality.AUDIO, x, widened)
    fresh = ensemble.run_branch(Modality.AUDIO, x)[1]
    assert torch.allclose(again[2:], fresh[2:], atol=1e-6), "those that return begin anew"


@given(st.integers(1, 5), st.integers(1, 40), st.integers(0, 60), st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_centering_fewer_folds_is_as_if_there_had_never_been_more(
    few: int, window: int, frames: int, seed: int
) -> None:
    x = np.random.default_rng(seed).normal(size=(frames + 5, 2, 5))
    whole, alone = RunningCentering(5, window, 2), RunningCentering(few, window, 2)
    state, expected = whole.initial_state(), alone.initial_state()
    for sample in x[:frames]:
        state, expected = whole.absorb(state, sample), alone.absorb(expected, sample[:, :few])
    state = state_of_first(state, few)
    for sample in x[frames:]:
        state, ours = alone.step(state, sample[:, :few])
        expected, theirs = alone.step(expected, sample[:, :few])
        assert np.array_equal(ours.value, theirs.value)
        assert np.array_equal(ours.spread, theirs.spread)


@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=150),
    st.integers(1, 12),
    st.integers(1, 12),
)
def test_folds_rest_at_once_and_serve_again_only_when_exact(
    wanted: list[int], memory: int, window: int
) -> None:
    active = ActiveFolds.of(6)
    # For how many frames in a row each fold has stepped: all of them for long.
    stepped = [memory + window] * 6
    for folds in wanted:
        active = next_active_folds(active, folds, memory, window)
        stepped = [n + 1 if fold < active.stepping else 0 for fold, n in enumerate(stepped)]
        assert active.stepping == folds
        assert 1 <= active.serving <= active.ready <= active.stepping
        assert all(stepped[fold] > memory for fold in range(active.ready))
        assert all(stepped[fold] >= memory + window for fold in range(active.serving))


def features(frames: int, rung_at: dict[int, Rung]) -> Iterator[FrameFeatures]:
    random, rung = np.random.default_rng(7), FULL
    for i in range(frames):
        rung = rung_at.get(i, rung)
        yield FrameFeatures(
            index=i,
            time_s=i / 30,
            captured_at=0.0,
            crop=random.integers(0, 255, (48, 48, 3), np.uint8),
            patch=random.normal(-3, 1, (96, 64)).astype(np.float32),
            face=True,
            available=Availability(visual=i % 17 != 0),
            rung=rung,
        )


def settled(estimator: Estimator, frames: int, rung_at: dict[int, Rung]) -> list[Estimate]:
    found: list[Any] = []
    state = estimator.initial_state()
    for f in features(frames, rung_at):
        state, answer = estimator.step(state, f)
        found += answer.settled
    return found + list(estimator.step(state, None, (EVERYTHING_SETTLED,))[1].settled)


@pytest.mark.parametrize("by_runners", [False, True], ids=["eager", "by-runners"])
def test_while_folds_rest_the_others_serve_and_once_back_all_is_as_if_they_never_had(
    bundle: Bundle, by_runners: bool
) -> None:
    window, memory = 30, 24
    runtime = serve(bundle, preference=Preference("eager"))
    if by_runners:
        graphs = senses_graph(bundle.ensemble), fusion_graph(bundle.ensemble)
        runtime.steps = Steps(bundle.ensemble, StepRunners(1, *map(run_eager, graphs)))
    estimator = Estimator(bundle, None, window=window, clock=lambda: 0.0, runtime=runtime)
    whole = settled(estimator, 160, {})
    rested = settled(estimator, 160, {40: FEW, 60: FULL})
    back = 60 + memory + window - 1
    assert [e.frame for e in rested] == list(range(160))
    assert [e.to_record() for e in rested[:40]] == [e.to_record() for e in whole[:40]]
    assert [e.degraded for e in rested[40:60]] == ["few"] * 20
    assert [e.degraded for e in rested[60:back]] == [RETURNING] * (back - 60)
    assert all(len(e.folds) == 2 for e in rested[40:back])
    centering = RunningCentering(2, window, 2)
    state = centering.initial_state()
    for ours, all_folds in zip(rested[:back], whole[:back], strict=True):
        few = np.array([(f.valence, f.arousal) for f in all_folds.folds[:2]])
        state, merged = centering.step(state, few.T)
        if ours.frame >= 40:
            assert [ours.value.valence, ours.value.arousal] == pytest.approx(merged.value.tolist(), abs=1e-5)
    for ours, theirs in zip(rested[back:], whole[back:], strict=True):
        assert ours.degraded is None
        assert len(ours.folds) == 4
        assert (ours.value.valence, ours.value.arousal) == pytest.approx(
            (theirs.value.valence, theirs.value.arousal), abs=1e-5
        )
        assert ours.spread.valence == pytest.approx(theirs.spread.valence, abs=1e-5)


@pytest.mark.parametrize("eager", [True, False])
def test_a_batch_in_which_folds_rest_and_return_is_cut_there(bundle: Bundle, eager: bool) -> None:
    """An accelerated part embeds for all folds; the first ones are what eager computes alone."""
    runtime = serve(bundle, preference=Preference("eager"))
    if not eager:
        runtime.is_eager = lambda part: False  # type: ignore[method-assign]
    estimator = Estimator(bundle, None, window=30, clock=lambda: 0.0, runtime=runtime)
    alone = settled(estimator, 100, {13: FEW, 29: FULL})
    moments = [Moment(f, ()) for f in features(100, {13: FEW, 29: FULL})]
    together: list[Any] = []
    state = estimator.initial_state()
    for at in range(0, 100, 7):
        state, found = estimator.answer(state, moments[at : at + 7])
        together += found
        state, _ = estimator.settle(state)
    assert [e.frame for e in together] == list(range(100))
    for ours, theirs in zip(together, alone, strict=True):
        assert ours.degraded == theirs.degraded
        assert len(ours.folds) == len(theirs.folds)
        assert ours.value.valence == pytest.approx(theirs.value.valence, abs=1e-5)
        assert ours.value.arousal == pytest.approx(theirs.value.arousal, abs=1e-5)


def test_a_return_that_is_called_off_leaves_nothing_behind(bundle: Bundle) -> None:
    estimator = Estimator(bundle, None, window=30, clock=lambda: 0.0)
    rested = settled(estimator, 80, {20: FEW})
    wavering = settled(estimator, 80, {20: FEW, 30: FULL, 60: FEW})
    for ours, theirs in zip(wavering, rested, strict=True):
        assert ours.value.valence == pytest.approx(theirs.value.valence, abs=1e-6)
        assert len(ours.folds) == len(theirs.folds)
