"""Keeping up or degrading: when the ladder steps, what a rung spares, and how a live engine moves on it."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import UserError
from models.spec import Modality
from models.visual.tracker import FaceTracker
from stream.build import load
from stream.estimation.batching import Moment
from stream.estimation.estimator import Estimator
from stream.flow.ladder import BUDGETS, RUNGS, Ladder, LadderSettings, LadderState, Rung, find_rung
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
    from stream.sources.events import SourceEvent


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
