"""Agreement with labels: RMSE, PCC and CCC over labelled frames."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.centering import ccc
from models.spec import TARGETS
from offline.metrics import pcc, score, score_targets

SERIES = arrays(np.float64, st.integers(2, 30), elements=st.floats(-1, 1, allow_subnormal=False))


def test_known_values() -> None:
    y, g = np.array([0.0, 1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0, 4.0])
    found = score(y, g)
    assert found is not None
    assert found.rmse == pytest.approx(1.0)
    assert found.pcc == pytest.approx(1.0)
    assert found.ccc == pytest.approx(2 * 1.25 / (1.25 + 1.25 + 1.0))
    assert found.frames == 4


def test_only_labelled_frames_count() -> None:
    y = np.array([0.1, 9.0, 0.3, np.nan, 0.2])
    g = np.array([0.2, np.nan, 0.1, np.nan, 0.4])
    assert score(y, g) == score(y[[0, 2, 4]], g[[0, 2, 4]])


def test_without_a_label_there_is_no_score() -> None:
    assert score(np.zeros(3), np.full(3, np.nan)) is None
    assert score(np.zeros(0), np.zeros(0)) is None


@pytest.mark.parametrize("constant", [0.0, 0.25, 1e-200])
def test_a_constant_series_has_no_correlation(constant: float) -> None:
    assert pcc(np.full(5, constant), np.arange(5)) == 0.0
    assert pcc(np.arange(5), np.full(5, constant)) == 0.0


@pytest.mark.parametrize("scale", [1e-200, 1e-9, 1.0, 1e90])
def test_correlation_does_not_depend_on_scale(scale: float) -> None:
    x = np.array([1.0, 4.0, 2.0, 8.0])
    assert pcc(x * scale, [1.0, 3.0, 2.0, 4.0]) == pytest.approx(pcc(x, [1.0, 3.0, 2.0, 4.0]))


@given(SERIES, st.integers(0, 2**32 - 1))
def test_scores_are_what_their_definitions_say(y: np.ndarray, seed: int) -> None:
    g = np.random.default_rng(seed).uniform(-1, 1, len(y))
    found = score(y, g)
    assert found is not None
    assert found.ccc == ccc(y, g)
    assert found.rmse == pytest.approx(math.sqrt(np.mean((y - g) ** 2)))
    if np.ptp(y) > 1e-6:
        assert found.pcc == pytest.approx(np.corrcoef(y, g)[0, 1], abs=1e-9)
    assert abs(found.ccc) <= abs(found.pcc) + 1e-9 or np.ptp(y) <= 1e-6, "CCC never exceeds correlation"


def test_each_target_is_scored_on_its_own_labels() -> None:
    y = np.array([[0.1, 0.5], [0.2, 0.4], [0.3, 0.1]])
    g = np.array([[0.1, np.nan], [0.2, np.nan], [0.4, np.nan]])
    found = score_targets(y, g, TARGETS)
    assert list(found) == ["valence"]
    assert found["valence"] == score(y[:, 0], g[:, 0])


def test_unequal_lengths_and_unusable_estimates_are_refused() -> None:
    with pytest.raises(ValueError, match="one length"):
        score(np.zeros(3), np.zeros(4))
    with pytest.raises(ValueError, match="not finite"):
        score([np.nan, 0.0], [0.1, 0.2])
