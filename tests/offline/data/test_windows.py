"""Windows: 300 by 200, the last aligned to the end; one draw of the picture for a window."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.spec import CropSpec, WindowSpec
from models.visual.alignment import network_input
from offline.data.windows import (
    CropAugmentation,
    average_windows,
    centre_crop,
    cut,
    cut_windows,
    fixed_augmentations,
    random_augmentation,
    take_pixels,
)

REPORT = WindowSpec()
specs = st.integers(1, 40).flatmap(
    lambda length: st.builds(WindowSpec, length=st.just(length), hop=st.integers(1, length))
)


@given(st.integers(1, 300), specs)
def test_windows_cover_every_frame_and_end_at_the_trial_s_end(frames: int, spec: WindowSpec) -> None:
    windows = cut_windows(frames, spec)
    assert windows[0].start == 0
    assert windows[-1].stop == frames
    assert set().union(*(range(w.start, w.stop) for w in windows)) == set(range(frames))
    assert all(w.length == spec.length for w in windows)
    if frames >= spec.length:
        assert all(w.frames == spec.length for w in windows)
    # All but the last begin a hop apart.
    assert all(b.start - a.start == spec.hop for a, b in pairwise(windows[:-1]))
    assert len({w.start for w in windows}) == len(windows)


@pytest.mark.parametrize(
    ("frames", "starts"), [(299, [0]), (300, [0]), (301, [0, 1]), (500, [0, 200]), (900, [0, 200, 400, 600])]
)
def test_the_report_s_windows(frames: int, starts: list[int]) -> None:
    assert [w.start for w in cut_windows(frames, REPORT)] == starts


def test_a_trial_without_frames_has_no_windows_and_a_hop_leaves_no_gap() -> None:
    assert cut_windows(0, REPORT) == ()
    with pytest.raises(ValueError, match="leaves frames between"):
        cut_windows(1000, WindowSpec(length=10, hop=11))


def test_a_short_trial_is_padded_behind_its_end() -> None:
    (window,) = cut_windows(3, WindowSpec(length=5, hop=5))
    series = np.arange(1, 7, dtype=np.float32).reshape(3, 2)
    assert cut(series, window).tolist() == [[1, 2], [3, 4], [5, 6], [0, 0], [0, 0]]
    assert np.isnan(cut(series, window, np.nan)[3:]).all()


@given(st.integers(1, 200), specs, st.integers(0, 9))
def test_averaging_windows_of_a_series_gives_the_series_back(
    frames: int, spec: WindowSpec, seed: int
) -> None:
    series = np.random.default_rng(seed).normal(size=(frames, 2)).astype(np.float32)
    windows = cut_windows(frames, spec)
    pieces: list[Any] = [cut(series, w) for w in windows]
    merged = average_windows(windows, pieces, frames)
    np.testing.assert_allclose(merged, series, atol=1e-6)


def test_overlapping_windows_are_averaged() -> None:
    windows = cut_windows(4, WindowSpec(length=3, hop=1))
    merged = average_windows(windows, [np.zeros((3, 1), np.float32), np.ones((3, 1), np.float32)], 4)
    assert merged[:, 0].tolist() == [0, 0.5, 0.5, 1]


def test_the_centre_draw_is_what_the_live_engine_shows() -> None:
    crops = np.random.default_rng(0).integers(0, 256, (5, 48, 48, 3), np.uint8)
    spec = CropSpec()
    np.testing.assert_array_equal(take_pixels(crops, centre_crop(spec), spec), network_input(crops))


def test_a_draw_moves_and_mirrors() -> None:
    spec = CropSpec()
    crops = np.random.default_rng(0).integers(0, 256, (2, 48, 48, 3), np.uint8)
    pixels = take_pixels(crops, CropAugmentation(0, 8, True), spec)
    value = (crops[1, 3, 47, 2] / 255 - 0.5) / 0.5
    assert pixels.shape == (2, 3, 40, 40)
    assert pixels[1, 2, 3, 0] == pytest.approx(value, abs=1e-6)


def test_random_draws_reach_every_place() -> None:
    random = np.random.default_rng(0)
    draws = [random_augmentation(random, CropSpec()) for _ in range(2000)]
    assert {d.top for d in draws} == {d.left for d in draws} == set(range(9))
    assert 0.4 < np.mean([d.flip for d in draws]) < 0.6


@given(st.integers(1, 162))
def test_fixed_draws_differ_and_begin_with_the_centre(count: int) -> None:
    draws = fixed_augmentations(count, CropSpec())
    assert len(set(draws)) == count
    assert draws[0] == centre_crop(CropSpec())
    assert draws == fixed_augmentations(count, CropSpec())


def test_more_draws_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="1 to 162"):
        fixed_augmentations(163, CropSpec())
