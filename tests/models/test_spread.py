"""The error to expect: fitted without a negative part, wider where less is present."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.spec import TARGETS
from models.spread import PATTERNS, SpreadCalibration, fit_spread, pattern_of


def test_every_pattern_has_a_name_of_its_own() -> None:
    names = [pattern_of(f, v, w) for f in (False, True) for v in (False, True) for w in (False, True)]
    assert sorted(names) == sorted(PATTERNS)
    assert pattern_of(False, False, False) == "nothing"
    assert pattern_of(True, False, True) == "face+words"


@given(st.integers(0, 2**32 - 1))
def test_what_made_the_errors_is_found_again(seed: int) -> None:
    random = np.random.default_rng(seed)
    spreads = random.uniform(0, 0.5, (4000, 2))
    patterns = np.array(["face", "nothing"])[random.integers(2, size=4000)]
    floor = np.where(patterns == "face", 0.02, 0.2)[:, None]
    errors = np.sqrt(2.0 * spreads**2 + floor)
    found = fit_spread(spreads, errors, patterns)
    for target in TARGETS:
        assert found.scale[target] == pytest.approx(2.0, abs=1e-6)
        assert found.floor["face"][target] == pytest.approx(0.02, abs=1e-6)
        assert found.floor["nothing"][target] == pytest.approx(0.2, abs=1e-6)


@given(st.integers(0, 2**32 - 1), st.integers(1, 400))
def test_no_coefficient_is_negative_and_every_expected_error_is_finite(seed: int, frames: int) -> None:
    random = np.random.default_rng(seed)
    spreads = random.uniform(0, 1, (frames, 2))
    # Errors that fall as the folds part: no scale above zero fits them.
    errors = 1 - spreads
    patterns = np.array(PATTERNS)[random.integers(len(PATTERNS), size=frames)]
    found = fit_spread(spreads, errors, patterns)
    assert min(found.scale.values()) >= 0
    for pattern in PATTERNS:
        expected = found.expected_error(spreads[0], pattern)
        assert np.isfinite(expected).all()
        assert (expected >= 0).all()


def test_a_pattern_that_was_never_seen_takes_the_floor_of_nothing() -> None:
    calibration = SpreadCalibration(
        scale={"valence": 1.0, "arousal": 1.0},
        floor={"nothing": {"valence": 0.25, "arousal": 0.16}, "face": {"valence": 0.01, "arousal": 0.04}},
    )
    assert calibration.expected_error(np.zeros(2), "words") == pytest.approx([0.5, 0.4])
    assert calibration.expected_error(np.zeros(2), "face") == pytest.approx([0.1, 0.2])


def test_nothing_to_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="no frames"):
        fit_spread(np.zeros((0, 2)), np.zeros((0, 2)), np.array([], np.str_))
