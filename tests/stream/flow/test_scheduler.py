"""How busy the stages are is measured, and the scheduler moves on the ladder by it."""

from __future__ import annotations

import pytest

from stream.flow.ladder import FULL
from stream.flow.scheduler import Scheduler

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
