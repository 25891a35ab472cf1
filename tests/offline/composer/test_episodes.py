"""Episodes: they fill a trial, hold or turn what is felt, and draw rare feelings often enough."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline.composer.episodes import FACE_MODES, VOICE_MODES, WORDS_MODES, draw_episodes, level_density

FEELINGS = np.array([[0, 0]] * 50 + [[0.8, 0.4]] * 10 + [[-0.6, 0.6]], np.float32)


@pytest.mark.parametrize("shares", [FACE_MODES, VOICE_MODES, WORDS_MODES])
def test_shares_are_parts_of_one(shares: dict[str, float]) -> None:
    assert sum(shares.values()) == pytest.approx(1.0)


@given(st.integers(0, 2**32 - 1), st.floats(5, 120))
def test_episodes_follow_one_another_without_a_hole(seed: int, length_s: float) -> None:
    episodes = draw_episodes(length_s, FEELINGS, np.random.default_rng(seed))
    assert episodes[0].start_s == 0
    assert episodes[-1].end_s == length_s
    assert all(a.end_s == b.start_s for a, b in itertools.pairwise(episodes))
    for episode in episodes:
        assert (episode.voice is None) == (episode.words is None)
        assert episode.feeling_at(episode.start_s) == pytest.approx(episode.felt)
        assert episode.feeling_at(episode.end_s) == pytest.approx(episode.becomes, abs=1e-6)
        middle = episode.feeling_at((episode.start_s + episode.end_s) / 2)
        assert middle == pytest.approx((episode.felt + episode.becomes) / 2, abs=1e-6)


def test_the_same_seed_gives_the_same_episodes() -> None:
    first, second = (draw_episodes(60.0, FEELINGS, np.random.default_rng(5)) for _ in range(2))
    assert [(s.start_s, s.face, s.voice) for s in first] == [(s.start_s, s.face, s.voice) for s in second]


def test_a_rare_feeling_is_drawn_more_often_than_it_occurs() -> None:
    chances = level_density(FEELINGS)
    assert chances.sum() == pytest.approx(1.0)
    assert chances[-1] > 5 * chances[0]
