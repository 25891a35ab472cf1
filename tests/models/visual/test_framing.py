"""From boxes to squares and from squares to crops: the laws of framing, and both detectors on real pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.errors import UserError
from models.spec import CropSpec
from models.visual.detectors import HaarDetector, YunetDetector, overlap
from models.visual.framing import FRAMINGS, BoxFraming, Square, frame_face, framing_of
from tests.models.face_clips import ONE_FACE, YUNET_FILE, pictures

if TYPE_CHECKING:
    from pathlib import Path

Picture = NDArray[np.uint8]

BOX = CropSpec(framing="box")
GREY = CropSpec(framing="box", grey=True)

framings = st.sampled_from(sorted(FRAMINGS)).map(FRAMINGS.__getitem__)
places = st.floats(-200, 800)
edges = st.floats(5, 400)


def smooth_picture(height: int = 120, width: int = 160) -> Picture:
    """Colours that change slowly, so that resampling hardly matters."""
    rows, columns = np.mgrid[0:height, 0:width]
    waves = [np.sin(columns / 23 + k) + np.cos(rows / 17 - k) for k in range(3)]
    return (127 + 60 * np.stack(waves, axis=-1)).astype(np.uint8)


@given(framings, places, places, edges, edges, st.floats(0.1, 10), st.floats(-300, 300))
def test_a_square_moves_and_grows_with_its_box(
    framing: BoxFraming, x: float, y: float, width: float, height: float, by: float, shift: float
) -> None:
    square = framing.square((x, y, width, height))
    moved = framing.square((x + shift, y - shift, width, height))
    assert moved == pytest.approx((square.x + shift, square.y - shift, square.side), abs=1e-6)
    scaled = framing.square((by * x, by * y, by * width, by * height))
    assert scaled == pytest.approx(tuple(by * value for value in square), rel=1e-9, abs=1e-6)


@given(framings, places, places, edges, edges)
def test_a_square_does_not_know_how_long_the_shorter_edge_is_but_for_its_centre(
    framing: BoxFraming, x: float, y: float, edge: float, shorter: float
) -> None:
    edge, shorter = max(edge, shorter), min(edge, shorter)
    wide, high = framing.square((x, y, edge, shorter)), framing.square((x, y, shorter, edge))
    assert wide.side == high.side == framing.scale * edge


def test_a_detector_that_was_never_fitted_is_refused_by_name() -> None:
    assert all(framing_of(name) is framing for name, framing in FRAMINGS.items())
    with pytest.raises(UserError, match=r"face detector 'eyes' frames a face: use haar or yunet"):
        framing_of("eyes")


def test_a_crop_is_the_picture_where_a_pixel_of_it_is_one_of_the_crop() -> None:
    picture = smooth_picture()
    crop = frame_face(picture, Square(50 + 24, 30 + 24, 48), BOX)
    assert np.array_equal(crop, picture[30:78, 50:98])


@pytest.mark.parametrize("by", [2, 3, 5])
def test_a_larger_picture_of_the_same_face_gives_the_same_crop(by: int) -> None:
    picture = smooth_picture()
    larger = cv2.resize(picture, None, fx=by, fy=by, interpolation=cv2.INTER_CUBIC)
    square = Square(70.0, 60.0, 60.0)
    crop = frame_face(picture, square, BOX).astype(int)
    other = frame_face(larger, Square(*(by * value for value in square)), BOX).astype(int)
    assert np.abs(crop - other).max() <= 3


@given(st.integers(-20, 20), st.integers(-20, 20))
def test_a_face_that_moves_with_its_square_gives_the_same_crop(right: int, down: int) -> None:
    picture = smooth_picture()
    moved = np.roll(picture, (down, right), axis=(0, 1))
    crop = frame_face(picture, Square(80.3, 60.7, 50.0), BOX)
    assert np.array_equal(crop, frame_face(moved, Square(80.3 + right, 60.7 + down, 50.0), BOX))


@given(st.floats(-150, 300), st.floats(-150, 300), st.floats(2, 300))
def test_an_edge_is_continued_and_brings_in_nothing_new(x: float, y: float, side: float) -> None:
    picture = np.full((60, 80, 3), (10, 200, 90), np.uint8)
    crop = frame_face(picture, Square(x, y, side), BOX)
    assert crop.shape == (48, 48, 3)
    assert np.array_equal(np.unique(crop.reshape(-1, 3), axis=0), [[10, 200, 90]])


def test_beyond_an_edge_stands_what_is_at_the_edge() -> None:
    picture = smooth_picture()
    crop = frame_face(picture, Square(0, 60, 48), BOX)
    assert np.array_equal(crop[:, :24], np.repeat(crop[:, 24:25], 24, axis=1))
    assert np.array_equal(crop[:, 24:], picture[36:84, :24])


@pytest.mark.parametrize("side", [30.0, 48.0, 400.0])
def test_grey_is_the_luma_three_times(side: float) -> None:
    crop = frame_face(smooth_picture(), Square(80, 60, side), GREY)
    assert np.array_equal(crop[..., 0], crop[..., 1])
    assert np.array_equal(crop[..., 0], crop[..., 2])
    luma = cv2.cvtColor(frame_face(smooth_picture(), Square(80, 60, side), BOX), cv2.COLOR_RGB2GRAY)
    assert np.abs(luma.astype(int) - crop[..., 0]).max() <= 2


@pytest.mark.parametrize("clip", ONE_FACE[3:6])
def test_the_detectors_frame_a_face_alike(clip: str, fixtures: Path) -> None:
    haar, yunet = HaarDetector(), YunetDetector(fixtures / "face" / YUNET_FILE)
    ratios, overlaps = [], []
    for picture in pictures(fixtures / "clips" / clip)[::15]:
        by_haar, by_yunet = haar.detect(picture), yunet.detect(picture)
        if by_haar and by_yunet:
            first, second = FRAMINGS["haar"].square(by_haar[0].box), FRAMINGS["yunet"].square(by_yunet[0].box)
            ratios.append(first.side / second.side)
            a, b = ((s.x - s.side / 2, s.y - s.side / 2, s.side, s.side) for s in (first, second))
            overlaps.append(overlap(a, b))
    assert len(ratios) >= 3
    assert 0.8 < np.median(ratios) < 1.25
    assert np.median(overlaps) > 0.65
