"""Trajectories: smooth, in range, and the label file that says them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.labels import read_labels
from offline.performer.trajectory import (
    composed_trajectory,
    random_trajectory,
    to_text,
    wander,
)

if TYPE_CHECKING:
    from pathlib import Path

SEEDS = st.integers(0, 2**31)


@settings(deadline=None, max_examples=30)
@given(seed=SEEDS, frames=st.integers(1, 600))
def test_a_random_trajectory_stays_in_range_and_has_a_row_for_each_frame(seed: int, frames: int) -> None:
    trajectory = random_trajectory(np.random.default_rng(seed), frames, 30.0)
    assert trajectory.shape == (frames, 2)
    assert np.all(np.abs(trajectory) <= 1)


def test_a_random_trajectory_is_smooth_and_uses_the_range() -> None:
    trajectory = random_trajectory(np.random.default_rng(1), 30 * 600, 30.0)
    assert np.abs(np.diff(trajectory, axis=0)).max() < 0.1
    assert np.all(trajectory.std(axis=0) > 0.4)
    assert np.all(trajectory.max(axis=0) > 0.8)
    assert np.all(trajectory.min(axis=0) < -0.8)


def test_the_same_seed_gives_the_same_trajectory() -> None:
    a, b, other = (random_trajectory(np.random.default_rng(s), 200, 30.0) for s in (5, 5, 6))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, other)


def test_wandering_is_as_spread_out_as_asked() -> None:
    series = wander(np.random.default_rng(2), 200_000, 30.0, time_constant_s=2.0, spread=0.25)
    assert series.std() == pytest.approx(0.25, rel=0.05)
    assert abs(series.mean()) < 0.03


def test_a_composed_trajectory_goes_through_its_knots_and_holds_beyond_them() -> None:
    trajectory = composed_trajectory([(1.0, -0.5, 0.5), (2.0, 0.5, -0.5)], 91, 30.0)
    assert np.allclose(trajectory[:31], (-0.5, 0.5))
    assert np.allclose(trajectory[45], 0.0)
    assert np.allclose(trajectory[60:], (0.5, -0.5))


@pytest.mark.parametrize("knots", [[(0.0, 0.0, 0.0)], [(1.0, 0.0, 0.0), (1.0, 1.0, 1.0)]])
def test_knots_must_be_two_or_more_in_rising_order(knots: list[tuple[float, float, float]]) -> None:
    with pytest.raises(ValueError, match="knots"):
        composed_trajectory(knots, 10, 30.0)


def test_labels_come_back_from_their_file(tmp_path: Path) -> None:
    trajectory = random_trajectory(np.random.default_rng(3), 50, 30.0)
    path = tmp_path / "trial.txt"
    path.write_text(to_text(trajectory))
    assert path.read_text().startswith("valence,arousal\n")
    assert path.read_bytes().endswith(b"\n")
    assert np.allclose(read_labels(path), trajectory, atol=1e-6)


@pytest.mark.parametrize("row", ["-5,0.5", "0.5,-5"])
def test_a_performed_corpus_is_read_by_the_rule_of_the_data_set(tmp_path: Path, row: str) -> None:
    path = tmp_path / "trial.txt"
    path.write_text(to_text(random_trajectory(np.random.default_rng(4), 2, 30.0)) + f"{row}\n")
    assert np.isnan(read_labels(path)).all(axis=1).tolist() == [False, False, True]
