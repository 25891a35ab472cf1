"""From landmarks to crop: the similarity, the standard template, and the network's input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.spec import CropSpec
from models.visual.alignment import TEMPLATE, align, network_input, similarity, to_crop, zero_crop

if TYPE_CHECKING:
    from numpy.typing import NDArray

places = arrays(np.float64, (5, 2), elements=st.floats(-100, 100, width=32))


def smooth_picture(height: int = 112, width: int = 112) -> NDArray[np.uint8]:
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = [np.sin(9 * x + 4 * y), np.cos(7 * y), np.sin(5 * x * y + 1)]
    picture: NDArray[np.uint8] = np.stack([127 + 120 * wave for wave in waves], axis=-1).astype(np.uint8)
    return picture


def scaled(picture: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    larger: NDArray[np.uint8] = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    return larger


def aligned_from_the_whole(picture: NDArray[np.uint8], landmarks: NDArray[Any]) -> NDArray[np.uint8]:
    """`align`, by shrinking all of the picture."""
    matrix = similarity(landmarks, TEMPLATE)
    factor = 2 ** max(0, int(np.floor(-np.log2(np.hypot(matrix[0, 0], matrix[1, 0])))))
    if factor > 1:
        height, width = (max(1, round(n / factor)) for n in picture.shape[:2])
        zoom = np.array([picture.shape[1] / width, picture.shape[0] / height])
        to_full = np.concatenate([np.diag(zoom), (zoom[:, None] - 1) / 2], axis=1)
        matrix = matrix @ np.concatenate([to_full, [[0, 0, 1]]])
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    aligned: NDArray[np.uint8] = cv2.warpAffine(picture, matrix, (112, 112), flags=cv2.INTER_LINEAR)
    return aligned


class TestSimilarity:
    @settings(deadline=None)
    @given(
        points=places.filter(lambda p: np.var(p, axis=0).sum() > 1),
        angle=st.floats(-3.1, 3.1),
        scale=st.floats(0.05, 20),
        shift=st.tuples(st.floats(-500, 500), st.floats(-500, 500)),
    )
    def test_a_similarity_is_found_again(
        self, points: NDArray[Any], angle: float, scale: float, shift: tuple[float, float]
    ) -> None:
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        found = similarity(points, points @ turn.T + shift)
        assert np.allclose(found, np.column_stack([turn, shift]), atol=1e-6 * max(1, scale))

    @settings(deadline=None)
    @given(
        points=places.filter(lambda p: np.var(p, axis=0).sum() > 1),
        step=arrays(np.float64, 4, elements=st.floats(-0.1, 0.1)),
    )
    def test_no_other_similarity_comes_nearer(self, points: NDArray[Any], step: NDArray[Any]) -> None:
        def misses(matrix: NDArray[Any]) -> float:
            return float(np.sum((points @ matrix[:, :2].T + matrix[:, 2] - TEMPLATE) ** 2))

        best = similarity(points, TEMPLATE)
        a, b, x, y = step
        assert misses(best) <= misses(best + np.array([[a, -b, x], [b, a, y]])) + 1e-6

    def test_it_never_mirrors(self) -> None:
        matrix = similarity(TEMPLATE * [-1, 1], TEMPLATE)
        assert np.linalg.det(matrix[:, :2]) >= 0

    @pytest.mark.parametrize("value", [0.0, 7.5, np.nan, np.inf])
    def test_landmarks_that_say_nothing_are_refused(self, value: float) -> None:
        with pytest.raises(ValueError, match="landmarks"):
            similarity(np.full((5, 2), value), TEMPLATE)


class TestAlign:
    def test_a_face_already_in_place_is_left_alone(self) -> None:
        picture = smooth_picture()
        assert np.array_equal(align(picture, TEMPLATE), picture)

    @pytest.mark.parametrize("factor", [2, 4, 9])
    def test_a_larger_face_gives_the_same_crop(self, factor: int) -> None:
        """Pixel centres: a picture enlarged n times moves a point p to n p + (n - 1) / 2."""
        picture = smooth_picture()
        aligned = align(scaled(picture, factor), TEMPLATE * factor + (factor - 1) / 2)
        difference = np.abs(aligned.astype(int) - picture)[2:-2, 2:-2]
        assert difference.max() <= 4
        assert difference.mean() < 0.8

    def test_fine_detail_of_a_large_face_is_averaged_not_sampled(self) -> None:
        """A grid too fine for the crop turns grey, as the eye would see it."""
        grid = np.tile(np.array([[0, 255], [255, 0]], np.uint8), (448, 448))
        aligned = align(np.repeat(grid[:, :, None], 3, axis=2), TEMPLATE * 8 + 3.5)
        assert np.abs(aligned[2:-2, 2:-2].astype(int) - 127).max() <= 2

    @given(
        sides=st.tuples(st.sampled_from([96, 120, 250, 480]), st.sampled_from([128, 333, 640])),
        face=st.floats(120, 900),
        turn=st.floats(-1.5, 1.5),
        place=st.tuples(st.floats(-0.3, 1.3), st.floats(-0.3, 1.3)),
        seed=st.integers(0, 99),
    )
    @settings(max_examples=60, deadline=None)
    def test_shrinking_only_what_is_shown_changes_no_pixel(
        self,
        sides: tuple[int, int],
        face: float,
        turn: float,
        place: tuple[float, float],
        seed: int,
    ) -> None:
        picture = np.random.default_rng(seed).integers(0, 256, (*sides, 3), dtype=np.uint8)
        z = (TEMPLATE @ [1, 1j] / 112 - 0.5 - 0.5j) * face * np.exp(1j * turn)
        landmarks = np.stack([z.real, z.imag], axis=1) + np.multiply(place, sides[::-1])
        assert np.array_equal(align(picture, landmarks), aligned_from_the_whole(picture, landmarks))

    def test_a_turned_face_comes_out_upright(self) -> None:
        picture = smooth_picture()
        turned = np.ascontiguousarray(np.rot90(picture))
        landmarks = np.column_stack([TEMPLATE[:, 1], 111 - TEMPLATE[:, 0]])
        assert np.abs(align(turned, landmarks).astype(int) - picture)[1:-1, 1:-1].max() <= 2

    def test_where_the_picture_ends_it_is_black(self) -> None:
        aligned = align(np.full((112, 112, 3), 200, np.uint8), TEMPLATE - [56, 0])
        assert (aligned[:, :50] == 0).all()
        assert (aligned[:, 60:] == 200).all()

    def test_another_aligned_size_scales_the_template(self) -> None:
        picture = smooth_picture()
        half = align(picture, TEMPLATE, CropSpec(aligned_size=56))
        assert half.shape == (56, 56, 3)

    def test_a_view_and_a_grey_picture_are_taken(self) -> None:
        wide = smooth_picture(112, 224)
        assert np.array_equal(align(wide[:, ::2], TEMPLATE), align(wide[:, ::2].copy(), TEMPLATE))
        grey = wide[:, :112, 0]
        assert np.array_equal(align(grey, TEMPLATE)[:, :, 1], grey)


class TestCrop:
    def test_a_crop_is_48_by_48(self) -> None:
        crop = to_crop(smooth_picture())
        assert crop.shape == (48, 48, 3)
        assert crop.dtype == np.uint8

    def test_it_keeps_the_mean_brightness(self) -> None:
        picture = smooth_picture()
        assert np.allclose(to_crop(picture).mean(axis=(0, 1)), picture.mean(axis=(0, 1)), atol=0.6)

    def test_the_zero_crop_is_zero(self) -> None:
        assert zero_crop().shape == (48, 48, 3)
        assert not zero_crop().any()

    def test_the_zero_crop_is_one_array_that_nobody_can_change(self) -> None:
        assert zero_crop() is zero_crop(CropSpec())
        assert zero_crop(CropSpec(stored_size=44)).shape == (44, 44, 3)
        with pytest.raises(ValueError, match="read-only"):
            zero_crop()[0, 0, 0] = 1


class TestNetworkInput:
    @settings(deadline=None)
    @given(crops=arrays(np.uint8, st.tuples(st.integers(0, 3), *[st.just(n) for n in (48, 48, 3)])))
    def test_it_is_the_middle_normalised_channels_first(self, crops: NDArray[np.uint8]) -> None:
        found = network_input(crops)
        assert found.shape == (len(crops), 3, 40, 40)
        assert found.dtype == np.float32
        expected = (crops[:, 4:44, 4:44].astype(np.float64) / 255 - 0.5) / 0.5
        assert np.allclose(found, expected.transpose(0, 3, 1, 2), atol=1e-6)

    def test_black_and_white_are_minus_one_and_one(self) -> None:
        assert (network_input(np.zeros((1, 48, 48, 3), np.uint8)) == -1).all()
        assert (network_input(np.full((1, 48, 48, 3), 255, np.uint8)) == 1).all()

    @pytest.mark.parametrize(
        "crops",
        [
            np.zeros((48, 48, 3), np.uint8),
            np.zeros((1, 40, 40, 3), np.uint8),
            np.zeros((1, 3, 48, 48), np.uint8),
            np.zeros((1, 48, 48, 3), np.float32),
        ],
    )
    def test_what_is_no_crop_is_refused(self, crops: NDArray[Any]) -> None:
        with pytest.raises(ValueError, match="crops must be"):
            network_input(crops)
