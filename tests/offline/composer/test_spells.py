"""Spells: they fill a trial, hold or turn what is felt, and draw rare feelings often enough."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline.composer.spells import FACES, VOICES, WORDS, draw_spells, level_density

FEELINGS = np.array([[0, 0]] * 50 + [[0.8, 0.4]] * 10 + [[-0.6, 0.6]], np.float32)


@pytest.mark.parametrize("shares", [FACES, VOICES, WORDS])
def test_shares_are_parts_of_one(shares: dict[str, float]) -> None:
    assert sum(shares.values()) == pytest.approx(1.0)


@given(st.integers(0, 2**32 - 1), st.floats(5, 120))
def test_spells_follow_one_another_without_a_hole(seed: int, length_s: float) -> None:
    spells = draw_spells(length_s, FEELINGS, np.random.default_rng(seed))
    assert spells[0].start_s == 0
    assert spells[-1].end_s == length_s
    assert all(a.end_s == b.start_s for a, b in itertools.pairwise(spells))
    for spell in spells:
        assert (spell.voice is None) == (spell.words is None)
        assert spell.feeling_at(spell.start_s) == pytest.approx(spell.felt)
        assert spell.feeling_at(spell.end_s) == pytest.approx(spell.becomes, abs=1e-6)
        middle = spell.feeling_at((spell.start_s + spell.end_s) / 2)
        assert middle == pytest.approx((spell.felt + spell.becomes) / 2, abs=1e-6)


def test_the_same_seed_gives_the_same_spells() -> None:
    first, second = (draw_spells(60.0, FEELINGS, np.random.default_rng(5)) for _ in range(2))
    assert [(s.start_s, s.face, s.voice) for s in first] == [(s.start_s, s.face, s.voice) for s in second]


def test_a_rare_feeling_is_drawn_more_often_than_it_occurs() -> None:
    chances = level_density(FEELINGS)
    assert chances.sum() == pytest.approx(1.0)
    assert chances[-1] > 5 * chances[0]
