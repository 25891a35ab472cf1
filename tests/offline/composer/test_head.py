"""Heads before a camera: smooth, bounded, seeded; and a mouth that opens changes the mouth alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.visual.framing import Square
from offline.composer.head import draw_face, draw_motion, open_mouth, wander

LANDMARKS = np.array([[15.5, 19.5], [32.5, 19.5], [24, 29], [17.5, 37.5], [30.5, 37.5]], np.float32)
PICTURE = np.random.default_rng(3).uniform(0.3, 0.8, (48, 48)).astype(np.float32)


@given(st.integers(0, 2**32 - 1))
def test_a_walk_stays_near_the_middle_and_makes_no_leap(seed: int) -> None:
    walk = wander(900, 30.0, 0.05, 1.5, np.random.default_rng(seed))
    assert np.abs(walk).max() < 0.4
    assert np.abs(np.diff(walk)).max() < 0.05


def test_the_same_seed_moves_the_same() -> None:
    first, second = (draw_motion(90, 30.0, np.random.default_rng(4)) for _ in range(2))
    assert np.array_equal(first.right, second.right)
    assert np.array_equal(first.gamma, second.gamma)


def test_what_the_camera_shows_is_a_picture() -> None:
    motion = draw_motion(30, 30.0, np.random.default_rng(5))
    for frame in range(30):
        shown = draw_face(PICTURE, Square(24, 25, 46), motion, frame, 48)
        assert shown.shape == (48, 48)
        assert 0 <= shown.min() <= shown.max() <= 1


def test_a_closed_mouth_changes_nothing_and_an_open_one_the_lower_face_alone() -> None:
    assert open_mouth(PICTURE, LANDMARKS, 0.0) is PICTURE
    opened = open_mouth(PICTURE, LANDMARKS, 0.35)
    assert opened[:14] == pytest.approx(PICTURE[:14], abs=0.06)
    middle = slice(34, 44), slice(19, 29)
    assert opened[middle].mean() < PICTURE[middle].mean() - 0.05, "a dark gap"
