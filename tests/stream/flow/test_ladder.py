"""Keeping up or degrading: when the ladder steps, what a rung spares, and that what returns is exact."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import pairwise
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
from models.errors import UserError
from models.networks.subset import first_folds, narrow, widen
from models.spec import Modality
from models.speech.words import EVERYTHING_SETTLED
from models.visual.tracker import FaceTracker
from stream.build import load
from stream.estimation.active_folds import ActiveFolds, next_active_folds
from stream.estimation.batching import Moment
from stream.estimation.estimates import RETURNING
from stream.estimation.estimator import Estimator
from stream.flow.ladder import BUDGETS, FULL, RUNGS, Ladder, LadderSettings, LadderState, Rung, find_rung
from stream.flow.scheduler import Scheduler
from stream.options import DEMO_BUNDLE, DEMO_RECORDING, EngineSettings, InputOptions
from stream.perception.features import Availability, FrameFeatures, Perception
from tests.stream.scripted import (
    Collected,
    ScriptedDetector,
    ScriptedSource,
    clip,
    frame,
    make_engine,
    small_bundle,
    sound,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from models.bundle.load import Bundle
    from stream.messages import Estimate
    from stream.sources.events import SourceEvent

FEW = Rung("few", fold_share=0.5)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return small_bundle(tmp_path_factory.mktemp("bundles") / "small", folds=4)


# When it steps


def climb(loads: Sequence[float], ladder: Ladder | None = None) -> list[int]:
    """The rung after each review."""
    ladder = ladder or Ladder()
    state, rungs = ladder.initial_state(), []
    for busy in loads:
        state, rung = ladder.step(state, busy)
        assert rung is ladder.rungs[state.rung]
        rungs.append(state.rung)
    return rungs


@given(st.lists(st.floats(0, 10), max_size=200))
def test_it_moves_one_rung_at_a_time_and_stays_on_the_ladder(loads: list[float]) -> None:
    rungs = [0, *climb(loads)]
    assert all(abs(b - a) <= 1 for a, b in pairwise(rungs))
    assert all(0 <= rung < len(RUNGS) for rung in rungs)


@given(st.floats(0.91, 100))
def test_what_does_not_keep_up_goes_to_the_bottom(load: float) -> None:
    assert climb([load] * 2 * len(RUNGS))[-1] == len(RUNGS) - 1


@given(st.lists(st.floats(0, 100), max_size=60))
def test_with_room_it_always_comes_back_to_full(before: list[float]) -> None:
    assert climb([*before, *[0.1] * (LadderSettings().most_patience * len(RUNGS))])[-1] == 0


@given(st.lists(st.floats(0.56, 0.89), max_size=100))
def test_between_the_marks_nothing_moves(loads: list[float]) -> None:
    assert set(climb([1.0] * 4 + loads)[4:]) <= {2}


def test_one_busy_moment_is_no_reason() -> None:
    assert set(climb([1.5, 0.7] * 50)) == {0}


@settings(max_examples=30)
@given(
    st.lists(st.floats(0.05, 3.0), min_size=len(RUNGS), max_size=len(RUNGS)).map(lambda c: sorted(c)[::-1])
)
def test_on_any_machine_it_settles_and_tries_the_rung_above_ever_less_often(costs: list[float]) -> None:
    """`costs`: the load that each rung is on this machine."""
    ladder, reviews = Ladder(), 6000
    state, rungs = ladder.initial_state(), []
    for _ in range(reviews):
        state, _ = ladder.step(state, costs[state.rung])
        rungs.append(state.rung)
    steps = sum(a != b for a, b in pairwise(rungs[reviews // 2 :]))
    assert steps <= 2 * (reviews // 2) / ladder.settings.most_patience * 2 + 4
    sustained = [rung for rung, cost in enumerate(costs) if cost <= ladder.settings.high]
    if sustained:
        carried = sum(costs[rung] <= ladder.settings.high for rung in rungs[reviews // 2 :])
        assert carried >= 0.95 * (reviews // 2), "on a rung it can carry, but for the tries"


def test_a_climb_that_failed_makes_it_patient_and_one_that_lasted_makes_it_eager_again() -> None:
    ladder = Ladder()
    state = LadderState(rung=3, climbed=True, held=1, busy=1, patience=10)
    state, _ = ladder.step(state, 1.0)
    assert (state.rung, state.patience) == (4, 20)
    for _ in range(LadderSettings().most_patience):
        state, _ = ladder.step(state, 0.7)
    assert state.patience == LadderSettings().least_patience


def test_a_budget_is_auto_or_a_rungs_name() -> None:
    assert find_rung("auto") is None
    assert [find_rung(rung.name) for rung in RUNGS] == list(RUNGS)
    with pytest.raises(UserError, match="one-fold"):
        find_rung("fast")
    assert BUDGETS[:2] == ("auto", "full")


def test_each_rung_spares_what_the_one_above_spares_and_more() -> None:
    for above, below in pairwise(RUNGS):
        assert below.visual_stride >= above.visual_stride
        assert below.audio_stride >= above.audio_stride
        assert below.folds(6) <= above.folds(6)
    assert [rung.folds(6) for rung in RUNGS[-2:]] == [3, 1]
    assert RUNGS[-1].folds(1) == 1


# How the load is measured


class Hands:
    """A clock moved by hand."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_the_load_is_the_busiest_stages_share_of_the_time() -> None:
    clock = Hands()
    scheduler = Scheduler(live=True, clock=clock)
    with scheduler.busy("perceive"):
        clock.now_s += 0.1
    with scheduler.busy("estimate"):
        clock.now_s += 0.3
    clock.now_s += 0.1
    scheduler.review(0)
    assert scheduler.load == pytest.approx(0.6)


def test_work_that_has_not_ended_counts_too() -> None:
    clock = Hands()
    scheduler = Scheduler(live=True, clock=clock)
    with scheduler.busy("estimate"):
        clock.now_s += 0.5
        scheduler.review(0)
        assert scheduler.load == pytest.approx(1.0)
        clock.now_s += 0.1
    clock.now_s += 0.4
    scheduler.review(0)
    assert scheduler.load == pytest.approx(0.2)


def test_dropped_frames_are_overload_however_idle_it_seems() -> None:
    clock = Hands()
    scheduler = Scheduler(live=True, clock=clock)
    moved = []
    for dropped in (3, 5, 5, 5):
        clock.now_s += 0.5
        moved.append(scheduler.review(dropped))
    assert moved == [False, True, False, False]
    assert scheduler.degraded == "visual-2"


def test_pinned_it_stays_and_a_recording_stays_at_full() -> None:
    clock = Hands()
    pinned = Scheduler("half-folds", live=True, clock=clock)
    recording = Scheduler("half-folds", live=False, clock=clock)
    for dropped in range(1, 20):
        clock.now_s += 0.5
        assert not pinned.review(dropped)
        assert not recording.review(dropped)
    assert (pinned.rung.name, pinned.degraded, pinned.budget) == ("half-folds", "half-folds", "half-folds")
    assert (recording.rung, recording.degraded) == (FULL, None)


# What a rung spares


def test_a_stride_keeps_the_crop_and_the_patch_and_asks_the_detector_less() -> None:
    class Counting(ScriptedDetector):
        looks = 0

        def detect(self, rgb: Any) -> Any:
            Counting.looks += 1
            return super().detect(rgb)

    perception = Perception(FaceTracker(Counting()))
    state = perception.initial_state()
    seen: list[FrameFeatures] = []
    for i in range(30):
        state, _ = perception.step(state, sound(i / 30, (i + 1) / 30))
        state, features = perception.step(state, frame(i), Availability(), Rung("test", 3, 2))
        seen.append(features)
    assert Counting.looks == 10
    assert [b.crop is a.crop for a, b in pairwise(seen)] == [i % 3 != 0 for i in range(1, 30)]
    assert [b.patch is a.patch for a, b in pairwise(seen)] == [i % 2 != 0 for i in range(1, 30)]
    assert all(f.face for f in seen)


def test_the_same_crop_is_embedded_once(bundle: Bundle) -> None:
    estimator = Estimator(bundle, None)
    perception = Perception(FaceTracker(ScriptedDetector()))
    shown, state = perception.initial_state(), estimator.initial_state()
    embedded = []
    for i in range(6):
        shown, features = perception.step(shown, frame(i), Availability(), Rung("test", 2, 1))
        state, _ = estimator.answer(state, [Moment(features, ())])
        embedded.append(state.embedded[Modality.VISUAL].embedding)
    assert [b is a for a, b in pairwise(embedded)] == [True, False, True, False, True]


def test_a_recording_with_a_rung_for_a_budget_is_refused() -> None:
    with pytest.raises(UserError, match="never degraded"):
        load(InputOptions(str(DEMO_RECORDING), bundle=DEMO_BUNDLE, budget="one-fold"))
    with pytest.raises(UserError, match="no budget"):
        load(InputOptions(str(DEMO_RECORDING), bundle=DEMO_BUNDLE, budget="small"))


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


# The whole engine on it


@pytest.mark.parametrize("budget", ["visual-2", "one-fold"])
async def test_a_pinned_rung_is_said_in_status_and_in_each_estimate(bundle: Bundle, budget: str) -> None:
    def events() -> Iterator[SourceEvent]:
        for event in clip(60):
            time.sleep(0.004)
            yield event

    seen = Collected()
    source = ScriptedSource(events(), live=True)
    await make_engine(bundle, source, [seen], settings=EngineSettings(budget=budget)).run()
    assert {e.degraded for e in seen.provisional + seen.settled} == {budget}
    assert {(s.budget, s.degraded) for s in seen.statuses} == {(budget, budget)}
    assert {len(e.folds) for e in seen.settled} == {1 if budget == "one-fold" else 4}


async def test_a_recording_never_degrades(bundle: Bundle) -> None:
    seen = Collected()
    slow = EngineSettings(pace="live", budget="one-fold")
    await make_engine(bundle, ScriptedSource(clip(30)), [seen], settings=slow).run()
    assert {e.degraded for e in seen.settled} == {None}
    assert {s.degraded for s in seen.statuses} == {None}


@pytest.mark.slow
async def test_a_machine_that_becomes_slow_degrades_and_recovers(bundle: Bundle) -> None:
    """A detector that takes longer than a frame for some seconds, and no time after that."""

    class Tired(ScriptedDetector):
        until_s = time.monotonic() + 4.0

        def detect(self, rgb: Any) -> Any:
            if time.monotonic() < self.until_s:
                time.sleep(0.09)
            return super().detect(rgb)

    def events() -> Iterator[SourceEvent]:
        began = time.monotonic()
        i = 0
        while i < 15 * 12 and not source.closed.is_set():
            time.sleep(max(0.0, began + i / 15 - time.monotonic()))
            yield replace(frame(i, 15.0), captured_at=time.time())
            i += 1

    seen = Collected()
    source = ScriptedSource(events(), live=True, sound=False)
    patient = Perception(FaceTracker(Tired()))
    engine = make_engine(bundle, source, [seen], perception=patient)
    # So that it need not be waited for: this is the engine's own ladder with less patience.
    engine._flow.scheduler = Scheduler(live=True, ladder=Ladder(LadderSettings(low=0.8, least_patience=3)))
    await engine.run()
    names = [s.degraded for s in seen.statuses]
    assert "visual-2" in names, "it degraded"
    assert names[-1] is None, "and came back"
    assert {"visual-2"} <= {e.degraded for e in seen.settled}
    assert seen.settled[-1].degraded is None
