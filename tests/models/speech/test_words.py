"""Provisional words: guessed times."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.speech.words import (
    LONGEST_GUESS_S,
    PARTIAL_LATENCY_S,
    Word,
    guess_times,
)
from tests.models.speech.spoken import texts

texts_lists = st.lists(st.sampled_from(["i", "am", "so", "happy"]), max_size=8)


@given(st.lists(st.tuples(texts_lists, st.floats(0.03, 2.0)), max_size=12), st.floats(0, 1000))
def test_guessed_times_are_in_order_whatever_the_partials(
    partials: list[tuple[list[str], float]], earliest_s: float
) -> None:
    words: tuple[Word, ...] = ()
    heard_s = earliest_s
    for partial, later_s in partials:
        heard_s += later_s
        before, words = words, guess_times(partial, words, earliest_s=earliest_s, heard_s=heard_s)
        assert texts(words) == partial
        for old, new in zip(before, words, strict=False):
            assert (old.start_s, old.end_s) == (new.start_s, new.end_s), "a place once given stays"
        assert all(earliest_s <= w.start_s < w.end_s for w in words)
        assert all(w.end_s - w.start_s <= LONGEST_GUESS_S + 1e-9 for w in words)
        assert all(a.end_s <= b.start_s for a, b in itertools.pairwise(words))


def test_new_words_end_where_the_recogniser_has_usually_heard_to() -> None:
    known = (Word("i", 1.0, 1.2),)
    words = guess_times(["i", "am", "so"], known, earliest_s=0.5, heard_s=1.2 + 0.6 + PARTIAL_LATENCY_S)
    assert words[1].start_s == pytest.approx(1.2)
    assert words[1].end_s == pytest.approx(1.5)
    assert words[2].end_s == pytest.approx(1.8)
