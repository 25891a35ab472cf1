"""The revisable window: frames leave it once, in order, and only when nothing can change them or there is no room."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.estimation.window import RevisableWindow


@dataclass(frozen=True)
class Frame:
    time_s: float


steps = st.lists(st.tuples(st.floats(0.001, 0.1), st.floats(-0.5, 0.2)), max_size=60)


@given(steps=steps, capacity=st.integers(1, 12))
def test_every_frame_settles_once_in_order_within_the_capacity(
    steps: list[tuple[float, float]], capacity: int
) -> None:
    window: RevisableWindow[Frame] = RevisableWindow(capacity)
    pushed: list[Any] = []
    settled: list[Any] = []
    early = 0
    now_s = 0.0
    for step_s, lead_s in steps:
        now_s += step_s
        pushed.append(Frame(now_s))
        window, left, pressed = window.push(pushed[-1]).advance(now_s + lead_s).settle()
        settled += left
        early += pressed
        assert len(window.frames) <= capacity
        assert all(f.time_s >= window.settled_until_s for f in window.frames)
    window, left, pressed = window.advance(float("inf")).settle()
    assert settled + list(left) == pushed
    assert pressed == 0
    assert window.frames == ()


@given(marks=st.lists(st.floats(-10, 10), min_size=1))
def test_the_mark_never_moves_back(marks: list[float]) -> None:
    window: RevisableWindow[Frame] = RevisableWindow(3)
    for mark in marks:
        before = window.settled_until_s
        window = window.advance(mark)
        assert window.settled_until_s >= before
    assert window.settled_until_s == max(marks)


def test_a_frame_pushed_out_for_want_of_room_is_counted() -> None:
    window: RevisableWindow[Frame] = RevisableWindow(2)
    for i in range(3):
        window = window.push(Frame(float(i)))
    window, left, early = window.settle()
    assert (left, early) == ((Frame(0.0),), 1)
    assert window.frames == (Frame(1.0), Frame(2.0))


def test_a_frame_at_the_mark_may_still_change() -> None:
    window: RevisableWindow[Frame] = RevisableWindow(5)
    _, left, _ = window.push(Frame(0.5)).push(Frame(1.0)).advance(1.0).settle()
    assert left == (Frame(0.5),)


def test_frames_must_move_forward() -> None:
    window: RevisableWindow[Frame] = RevisableWindow(5)
    with pytest.raises(ValueError, match="not after"):
        window.push(Frame(1.0)).push(Frame(1.0))


@given(times=st.lists(st.floats(0, 10), unique=True, max_size=20), asked=st.floats(-1, 11))
def test_first_at_or_after(times: list[float], asked: float) -> None:
    window: RevisableWindow[Frame] = RevisableWindow(100)
    for time_s in sorted(times):
        window = window.push(Frame(time_s))
    assert window.first_at_or_after(asked) == sum(t < asked for t in times)


@given(steps=steps, capacity=st.integers(1, 12), limit=st.integers(1, 5))
def test_slices_give_the_same_frames_and_what_must_leave_for_want_of_room_is_said(
    steps: list[tuple[float, float]], capacity: int, limit: int
) -> None:
    whole: RevisableWindow[Frame] = RevisableWindow(capacity)
    sliced: RevisableWindow[Frame] = RevisableWindow(capacity)
    ours: list[Any] = []
    theirs: list[Any] = []
    early, pressed = 0, 0
    now_s = 0.0
    for step_s, lead_s in steps:
        now_s += step_s
        whole, left, n = whole.push(Frame(now_s)).advance(now_s + lead_s).settle()
        theirs += left
        pressed += n
        sliced = sliced.push(Frame(now_s)).advance(now_s + lead_s)
        while True:
            sliced, left, n = sliced.settle(limit)
            ours += left
            early += n
            if not sliced.crowded:
                break
    _, left, n = sliced.settle()
    assert ours + list(left) == theirs
    assert early + n == pressed
