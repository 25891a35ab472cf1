"""Framing by the box: the same face alike, wherever it stands, however large it is, whoever found it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.spec import CropSpec
from models.visual.detectors import Image
from models.visual.framing import FRAMINGS, BoxFraming, Square, frame_face

GREY = CropSpec(framing="box", grey=True)


def scene(width: int, height: int, square: Square) -> Image:
    """A smooth pattern that lies alike in every square."""
    x = (np.arange(width) + 0.5 - square.x) / square.side
    y = (np.arange(height) + 0.5 - square.y) / square.side
    pattern = 128 + 60 * np.sin(5 * x)[None, :] * np.cos(4 * y)[:, None] + 40 * y[:, None]
    return np.repeat(pattern.clip(0, 255).astype(np.uint8)[:, :, None], 3, axis=2)


@given(st.floats(60, 260), st.floats(200, 440), st.floats(150, 330))
def test_a_face_gives_the_same_crop_wherever_it_stands_and_whatever_its_size(
    side: float, x: float, y: float
) -> None:
    wanted = frame_face(scene(640, 480, Square(320, 240, 144)), Square(320, 240, 144), GREY)
    found = frame_face(scene(640, 480, Square(x, y, side)), Square(x, y, side), GREY)
    assert found.shape == (48, 48, 3)
    assert np.abs(found.astype(int) - wanted.astype(int)).mean() < 3


def test_grey_repeats_one_channel_and_colour_keeps_three() -> None:
    picture = np.random.default_rng(1).integers(0, 255, (100, 120, 3)).astype(np.uint8)
    grey = frame_face(picture, Square(60, 50, 70), GREY)
    assert (grey[..., 0] == grey[..., 1]).all()
    assert (grey[..., 0] == grey[..., 2]).all()
    colour = frame_face(picture, Square(60, 50, 70), CropSpec(framing="box"))
    assert (colour[..., 0] != colour[..., 2]).any()


def test_where_the_picture_ends_its_edge_goes_on() -> None:
    picture = np.full((80, 80, 3), 90, np.uint8)
    assert (frame_face(picture, Square(0, 0, 100), GREY) == 90).all()
    assert (frame_face(picture, Square(500, 500, 40), GREY) == 90).all()


@given(st.floats(0, 300), st.floats(0, 300), st.floats(20, 200), st.floats(20, 200))
def test_a_square_moves_and_grows_with_its_box(x: float, y: float, width: float, height: float) -> None:
    framing = FRAMINGS["haar"]
    square, moved = framing.square((x, y, width, height)), framing.square((x + 7, y + 9, width, height))
    assert moved == pytest.approx((square.x + 7, square.y + 9, square.side))
    doubled = framing.square((2 * x, 2 * y, 2 * width, 2 * height))
    assert doubled == pytest.approx((2 * square.x, 2 * square.y, 2 * square.side))


def test_the_reference_is_centred_on_its_box() -> None:
    assert FRAMINGS["yunet"].square((10, 20, 40, 50)) == pytest.approx((30, 45, 56))
    assert BoxFraming(1.0).square((0, 0, 10, 10)) == (5, 5, 10)
