"""Where batches are cut: by frame number alone, never longer than the latency target allows, nothing lost."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.speech.words import Settled
from stream.estimation.batching import (
    MOST_AT_ONCE,
    Moment,
    batch_sizes,
    ends_batch,
    frames_at_once,
    keep_words,
    runs,
    whole_batches,
)
from stream.options import LATENCY_TARGET_MS

TARGETS_MS = st.floats(0, 5000)
RATES = st.floats(0.5, 240)


def test_by_default_three_frames_at_thirty_a_second_and_with_no_time_one() -> None:
    assert frames_at_once(LATENCY_TARGET_MS, 30.0) == 3
    assert frames_at_once(0, 30.0) == 1
    assert frames_at_once(500, 30.0) == 16
    assert frames_at_once(100, 30.0) == 4, "a hundred milliseconds are three whole frames more"
    assert frames_at_once(LATENCY_TARGET_MS, 10.0) == 1, "the next frame would come too late"


@given(TARGETS_MS, RATES)
def test_the_first_frame_of_a_batch_waits_no_longer_than_the_target(target_ms: float, rate: float) -> None:
    size = frames_at_once(target_ms, rate)
    assert 1 <= size <= MOST_AT_ONCE
    assert (size - 1) * 1000 / rate <= target_ms * (1 + 1e-6) + 1e-6
    if size < MOST_AT_ONCE:
        assert size * 1000 / rate > target_ms * (1 - 1e-6) - 1e-6, "and no shorter than it may"


@given(TARGETS_MS, TARGETS_MS, RATES)
def test_more_time_never_means_fewer_frames(one_ms: float, other_ms: float, rate: float) -> None:
    less, more = sorted((one_ms, other_ms))
    assert frames_at_once(less, rate) <= frames_at_once(more, rate)


@pytest.mark.parametrize(("target_ms", "rate"), [(-1, 30), (math.nan, 30), (70, 0), (70, -1)])
def test_a_target_or_a_rate_that_is_none_is_refused(target_ms: float, rate: float) -> None:
    with pytest.raises(ValueError, match="no batch"):
        frames_at_once(target_ms, rate)


@given(st.integers(1, MOST_AT_ONCE))
def test_accelerators_are_built_for_few_sizes(at_once: int) -> None:
    assert batch_sizes(at_once, live=False) == (at_once,)
    sizes = batch_sizes(at_once, live=True)
    assert sizes[0] == 1
    assert sizes[-1] == at_once
    assert len(sizes) <= 3


@given(st.integers(0, 500), st.integers(1, MOST_AT_ONCE))
def test_batches_are_equal_pieces_from_the_first_frame_on(frames: int, size: int) -> None:
    batches: list[list[int]] = [[]]
    for index in range(frames):
        batches[-1].append(index)
        if ends_batch(index, size):
            batches.append([])
    whole = [b for b in batches if b]
    assert [i for b in whole for i in b] == list(range(frames))
    assert all(len(b) == size for b in whole[:-1])
    assert all(b[0] % size == 0 for b in whole), "wherever one looks from, the cuts are the same"


@given(
    st.sets(st.integers(0, 60)),
    st.integers(1, 9),
    st.lists(st.tuples(st.integers(0, 70), st.one_of(st.none(), st.integers(1, 12)))),
)
def test_what_settles_together_depends_on_numbers_alone(
    numbers: set[int], size: int, steps: list[tuple[int, int | None]]
) -> None:
    """However many are ready when, and however many are asked for."""
    waiting = sorted(numbers)
    taken: list[list[int]] = []
    for ready, limit in [*steps, (len(numbers), None)]:
        ended = (ready, limit) == (len(numbers), None)
        lengths = whole_batches(waiting, min(ready, len(waiting)), size, limit, ended=ended)
        assert sum(lengths) <= ready
        if limit is not None and len(lengths) > 1:
            assert sum(lengths) <= limit
        for length in lengths:
            taken.append(waiting[:length])
            waiting = waiting[length:]
    assert waiting == []
    assert taken == list(runs(sorted(numbers), lambda n: n // size))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers())))
def test_runs_lose_nothing_and_are_as_long_as_they_can_be(items: list[tuple[int, int]]) -> None:
    found = list(runs(items, lambda item: item[0]))
    assert [item for run in found for item in run] == items
    assert all(len({key for key, _ in run}) == 1 for run in found)
    assert all(a[0][0] != b[0][0] for a, b in pairwise(found))


def test_what_was_said_with_a_frame_that_goes_stays() -> None:
    first, second = Settled(1.0), Settled(2.0)
    kept = keep_words(Moment(None, (first,)), Moment(None, (second,)))
    assert kept.events == (first, second)
