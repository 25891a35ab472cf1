"""Labels of composed trials: what is there speaks by its weight, what has gone is forgotten, nothing is neutral."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.spec import Modality
from offline.composer.perceived import WEIGHTS, Channel, perceive, perceive_partly
from offline.data.store import modality_set

RATE = 30.0


def channel(feeling: tuple[float, float], there: list[bool]) -> Channel:
    return Channel(np.tile(np.array(feeling, np.float32), (len(there), 1)), np.array(there))


def test_weights_of_all_channels_are_parts_of_one() -> None:
    for k in range(2):
        assert sum(weight[k] for weight in WEIGHTS.values()) == pytest.approx(1.0)


def test_a_face_alone_says_what_it_shows() -> None:
    labels = perceive({Modality.VISUAL: channel((-0.6, 0.5), [True] * 90)}, RATE)
    assert labels[-1] == pytest.approx([-0.6, 0.5], abs=1e-3)


def test_where_nothing_is_there_the_answer_returns_to_neutral() -> None:
    labels = perceive({Modality.VISUAL: channel((0.8, 0.4), [True] * 60 + [False] * 240)}, RATE)
    assert labels[59, 0] == pytest.approx(0.8, abs=0.01)
    fading = labels[60:, 0]
    assert (np.diff(fading) <= 1e-6).all()
    assert abs(fading[-1]) < 0.05


def test_a_voice_weighs_more_on_arousal_than_on_valence() -> None:
    there = [True] * 120
    labels = perceive(
        {Modality.VISUAL: channel((0, 0), there), Modality.AUDIO: channel((-0.55, 0.65), there)}, RATE
    )
    assert labels[-1, 0] / -0.55 == pytest.approx(0.15 / 0.75, abs=0.02)
    assert labels[-1, 1] / 0.65 == pytest.approx(0.45 / 0.9, abs=0.02)


@given(st.integers(0, 2**32 - 1))
def test_labels_lie_between_what_the_channels_say_and_neutral(seed: int) -> None:
    random = np.random.default_rng(seed)
    channels = {
        name: Channel(random.uniform(-1, 1, (50, 2)).astype(np.float32), random.random(50) < 0.5)
        for name in WEIGHTS
    }
    labels = perceive(channels, RATE)
    assert np.isfinite(labels).all()
    assert np.abs(labels).max() <= max(np.abs(c.feelings).max() for c in channels.values()) + 1e-6


def test_who_is_told_of_one_modality_says_what_that_one_says() -> None:
    there = [True] * 120
    channels = {
        Modality.VISUAL: channel((0.8, 0.4), there),
        Modality.AUDIO: channel((-0.55, 0.65), there),
        Modality.LANGUAGE: channel((-0.6, -0.2), [False] * 120),
    }
    labels = perceive(channels, RATE)
    partial = perceive_partly(channels, RATE, labels)
    assert partial.shape == (120, 8, 2)
    assert (partial[:, modality_set(list(Modality))] == labels).all()
    assert partial[-1, modality_set([Modality.VISUAL])] == pytest.approx([0.8, 0.4], abs=1e-3)
    assert partial[-1, modality_set([Modality.AUDIO])] == pytest.approx([-0.55, 0.65], abs=1e-3)
    assert (partial[:, modality_set([Modality.LANGUAGE])] == 0).all(), "nothing was said"
    assert (partial[:, modality_set([])] == 0).all()
