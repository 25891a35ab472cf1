"""Waits between attempts grow to their bound, differ from each other, and begin anew after a success."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from stream.flow.backoff import Backoff


@given(st.integers(1, 60), st.integers(0, 99))
def test_waits_grow_to_a_bound_and_are_drawn(failures: int, seed: int) -> None:
    state, draw = Backoff(first_s=0.5, most_s=15.0), random.Random(seed)
    for index in range(failures):
        state, wait_s = state.step(draw)
        bound_s = min(15.0, 0.5 * 2**index)
        assert bound_s / 2 <= wait_s <= bound_s


@settings(deadline=None)
@given(seed=st.integers(), first_s=st.floats(0.01, 2), limit_s=st.floats(2, 60))
def test_waits_are_jittered_and_begin_anew_after_a_success(seed: int, first_s: float, limit_s: float) -> None:
    backoff, draw = Backoff(first_s, limit_s), random.Random(seed)
    waits = []
    for _ in range(100):
        backoff, wait_s = backoff.step(draw)
        waits.append(wait_s)
    for attempt, wait_s in enumerate(waits):
        whole = min(limit_s, first_s * 2.0**attempt)
        assert whole / 2 <= wait_s <= whole
    assert len(set(waits[-20:])) > 1
    _, wait_s = backoff.reset().step(draw)
    assert wait_s <= first_s
