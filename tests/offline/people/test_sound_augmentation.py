"""Disturbed sentences: other microphones and rooms, at levels that stay within bounds, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offline.people.sound_augmentation import (
    SAMPLE_RATE,
    Float32,
    SoundAugmentation,
    augment_sound,
    background,
)

SEEDS = st.integers(0, 2**32 - 1)


def sentence(seconds: float = 0.5) -> Float32:
    times = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (0.1 * np.sin(2 * np.pi * 300 * times)).astype(np.float32)


def level_db(samples: Float32) -> float:
    return float(20 * np.log10(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))))


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_a_copy_stays_in_range_and_about_as_long(seed: int) -> None:
    sound, how = sentence(), SoundAugmentation()
    copy = augment_sound(sound, how, np.random.default_rng(seed))
    assert copy.dtype == np.float32
    assert np.isfinite(copy).all()
    assert np.abs(copy).max() <= 1.0
    assert len(sound) / (1 + how.speed) - 1 <= len(copy) <= len(sound) / (1 - how.speed) + 1


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_the_level_moves_by_the_gain_and_no_more(seed: int) -> None:
    sound, how = sentence(), SoundAugmentation(noise_share=0.0)
    moved = level_db(augment_sound(sound, how, np.random.default_rng(seed))) - level_db(sound)
    lowest, highest = how.gain_db
    assert lowest - 0.1 <= moved <= highest + 0.1


def test_the_same_seed_gives_the_same_bits() -> None:
    one, same, other = (
        augment_sound(sentence(), SoundAugmentation(), np.random.default_rng(s)) for s in (3, 3, 4)
    )
    assert np.array_equal(one, same)
    assert not np.array_equal(one[:100], other[:100])


def test_the_recording_itself_is_left_alone() -> None:
    sound = sentence()
    before = sound.copy()
    augment_sound(sound, SoundAugmentation(reverb_share=1.0, noise_share=1.0), np.random.default_rng(0))
    assert np.array_equal(sound, before)


def test_too_loud_a_copy_is_clipped() -> None:
    loud = augment_sound(sentence() * 9, SoundAugmentation(gain_db=(20.0, 20.0)), np.random.default_rng(0))
    assert np.abs(loud).max() == 1.0


def test_nothing_asked_for_changes_hardly_anything() -> None:
    plain = SoundAugmentation((0.0, 0.0), 0.0, 0.0, 0.0, noise_share=0.0, reverb_share=0.0)
    np.testing.assert_allclose(
        augment_sound(sentence(), plain, np.random.default_rng(0)), sentence(), atol=1e-5
    )


@pytest.mark.parametrize("seed", range(5))
def test_a_room_without_a_voice_is_quiet(seed: int) -> None:
    noise = background(8_000, np.random.default_rng(seed))
    assert noise.shape == (8_000,)
    assert -90.1 <= level_db(noise) <= -29.9
    assert np.array_equal(noise, background(8_000, np.random.default_rng(seed)))
