"""Disturbed sentences: other level, colour and speed, but sound all the same; seeded."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from offline.people.disturbance import Disturbance, background, disturbed

SENTENCE = (0.4 * np.sin(np.arange(16_000) * 0.08)).astype(np.float32)


@given(st.integers(0, 2**32 - 1))
def test_a_sentence_stays_a_sentence(seed: int) -> None:
    how = Disturbance()
    found = disturbed(SENTENCE, how, np.random.default_rng(seed))
    assert found.dtype == np.float32
    assert np.abs(found).max() <= 1
    assert abs(len(found) / len(SENTENCE) - 1) <= how.speed * 1.2
    level_db = 20 * np.log10(np.sqrt(np.mean(found**2)) / np.sqrt(np.mean(SENTENCE**2)))
    assert how.gain_db[0] - 2 <= level_db <= how.gain_db[1] + 2


def test_the_same_seed_disturbs_alike_and_another_does_not() -> None:
    first, again, other = (disturbed(SENTENCE, Disturbance(), np.random.default_rng(s)) for s in (1, 1, 2))
    assert np.array_equal(first, again)
    assert len(first) != len(other) or not np.array_equal(first, other)


@given(st.integers(0, 2**32 - 1))
def test_a_room_in_which_nobody_speaks_is_quiet(seed: int) -> None:
    noise = background(8000, np.random.default_rng(seed))
    assert noise.shape == (8000,)
    assert np.sqrt(np.mean(noise**2)) < 0.05
