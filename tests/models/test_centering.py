"""CCC and CCC-centering: the definition, the recipe step by step, and the running form's law."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.centering import (
    LEAST_AGREEMENT,
    Centered,
    CenteredFrame,
    RunningCentering,
    ccc,
    ccc_matrix,
    center,
)

# Multiples of a thousandth: what near-equal values agree on must not hang on their last bits.
values = st.integers(-1_000_000, 1_000_000).map(lambda n: n / 1000)
calm = st.sampled_from([-1.0, -0.25, 0.0, 0.1, 0.1, 0.1, 0.7])


def series(folds: st.SearchStrategy[int], samples: st.SearchStrategy[int]) -> st.SearchStrategy[np.ndarray]:
    return st.tuples(folds, samples, st.sampled_from([values, calm])).flatmap(
        lambda drawn: arrays(np.float64, drawn[:2], elements=drawn[2], fill=st.nothing())
    )


def wavy(folds: int, samples: int, seed: int = 0) -> np.ndarray:
    """Folds that follow one signal with their own noise, gain and offset, as trained folds do."""
    rng = np.random.default_rng(seed)
    signal = np.sin(np.arange(samples) / 37) * 0.5
    gain, offset = rng.uniform(0.6, 1.2, (folds, 1)), rng.normal(0, 0.2, (folds, 1))
    return gain * signal + offset + rng.normal(0, 0.1, (folds, samples))


def plain_recipe(x: np.ndarray, mixed: bool) -> tuple[np.ndarray, np.ndarray]:
    """The recipe in loops and numpy's own statistics: merged series and agreements."""
    folds = len(x)
    agreements = np.zeros(folds)
    for r in range(folds):
        for s in range(folds):
            if r != s:
                covariance = np.mean((x[r] - x[r].mean()) * (x[s] - x[s].mean()))
                apart = x[r].var(ddof=mixed) + x[s].var(ddof=mixed) + (x[r].mean() - x[s].mean()) ** 2
                agreements[r] += 2 * covariance / apart / (folds - 1)
    offset = sum(a * row.mean() for a, row in zip(agreements, x, strict=True)) / agreements.sum()
    return np.mean([row - row.mean() + offset for row in x], axis=0), agreements


class TestCcc:
    def test_value_computed_by_hand(self) -> None:
        # means 2 and 3, population variances 2/3 and 2/3, covariance 2/3
        assert ccc([1, 2, 3], [2, 3, 4]) == pytest.approx((4 / 3) / (4 / 3 + 1))

    def test_mixed_divides_variances_by_one_less(self) -> None:
        assert ccc([1, 2, 3], [2, 3, 4], mixed=True) == pytest.approx((4 / 3) / (2 + 1))

    @given(series(st.just(2), st.integers(1, 30)))
    def test_is_symmetric_and_bounded(self, x: np.ndarray) -> None:
        assert ccc(x[0], x[1]) == ccc(x[1], x[0])
        assert abs(ccc(x[0], x[1])) <= 1 + 1e-12

    @given(series(st.just(1), st.integers(2, 30)))
    def test_with_itself_is_one_and_with_its_mirror_at_most_zero(self, x: np.ndarray) -> None:
        assert ccc(x[0], x[0]) == pytest.approx(1)
        mirrored = 2 * x[0].mean() - x[0]
        assert np.ptp(x[0]) == 0 or ccc(x[0], mirrored) == pytest.approx(-1)

    def test_keeps_its_digits_far_from_zero(self) -> None:
        x = wavy(2, 500)
        assert ccc(x[0] + 1e6, x[1] + 1e6) == pytest.approx(ccc(x[0], x[1]), abs=1e-8)

    @pytest.mark.parametrize(
        ("x", "y", "expected"),
        [
            pytest.param([0.1] * 7, [0.1] * 7, 1.0, id="equal constants"),
            pytest.param([0.1] * 7, [0.3] * 7, 0.0, id="different constants"),
            pytest.param([0.1] * 3, [0.1, 0.2, 0.0], 0.0, id="one constant"),
            pytest.param([0.5], [0.5], 1.0, id="one equal sample"),
            pytest.param([0.5], [0.4], 0.0, id="one different sample"),
        ],
    )
    @pytest.mark.parametrize("mixed", [False, True])
    def test_constant_series_have_defined_answers(
        self, x: list[float], y: list[float], expected: float, mixed: bool
    ) -> None:
        assert ccc(x, y, mixed=mixed) == expected

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e100])
    def test_values_that_are_not_finite_are_refused(self, bad: float) -> None:
        with pytest.raises(ValueError, match="not finite"):
            ccc([0.0, bad], [0.0, 1.0])

    def test_series_of_different_lengths_are_refused(self) -> None:
        with pytest.raises(ValueError, match="one length"):
            ccc([1.0, 2.0], [1.0])
        with pytest.raises(ValueError, match="shape"):
            ccc([], [])


class TestWholeSeries:
    @pytest.mark.parametrize("mixed", [False, True])
    def test_equals_the_recipe_step_by_step(self, mixed: bool) -> None:
        x = wavy(6, 1000)
        merged, agreements = plain_recipe(x, mixed)
        found = center(x, mixed=mixed)
        np.testing.assert_allclose(found.merged, merged, atol=1e-12)
        np.testing.assert_allclose(found.agreements, agreements, atol=1e-12)
        np.testing.assert_allclose(found.merged, found.folds.mean(axis=0), atol=1e-15)

    def test_a_fold_that_disagrees_weighs_less(self) -> None:
        x = wavy(4, 600)
        x[2] = np.random.default_rng(1).normal(3, 1, 600)
        weights = center(x).weights
        assert weights[2] < 0.1 * np.delete(weights, 2).min()
        assert weights.sum() == pytest.approx(1)

    @given(series(st.integers(2, 5), st.integers(1, 40)))
    def test_centred_folds_share_one_mean_and_keep_their_shape(self, x: np.ndarray) -> None:
        found = center(x)
        np.testing.assert_allclose(found.folds.mean(axis=1), found.merged.mean(), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(np.diff(found.folds, axis=1), np.diff(x, axis=1), rtol=1e-9, atol=1e-9)

    def test_one_fold_is_returned_unchanged(self) -> None:
        x = wavy(1, 50)
        found = center(x)
        assert (found.merged == x[0]).all()
        assert found.weights.tolist() == [1.0]
        assert found.agreements.tolist() == [1.0]

    @pytest.mark.parametrize(
        "x",
        [
            pytest.param([[0.0, 0.0], [1.0, 1.0], [5.0, 5.0]], id="different constants"),
            pytest.param([[0.0, 1.0], [1.0, 0.0]], id="opposite"),
            pytest.param([[1.0, -1.0, 1.0, -1.0], [1.0, 1.0, -1.0, -1.0]], id="uncorrelated"),
        ],
    )
    def test_without_agreement_all_folds_weigh_the_same(self, x: list[list[float]]) -> None:
        found = center(x)
        assert found.agreements.mean() < LEAST_AGREEMENT
        np.testing.assert_array_equal(found.weights, np.full(len(x), 1 / len(x)))
        np.testing.assert_allclose(found.merged, np.mean(x, axis=0), atol=1e-15)

    def test_the_matrix_is_pairwise(self) -> None:
        x = wavy(3, 80)
        matrix = ccc_matrix(x)
        for r in range(3):
            for s in range(3):
                assert matrix[r, s] == pytest.approx(ccc(x[r], x[s]))

    @pytest.mark.parametrize("x", [np.zeros((0, 5)), np.zeros((3, 0)), np.zeros(4), [[0.0, np.nan]]])
    def test_what_is_not_a_series_is_refused(self, x: np.ndarray) -> None:
        with pytest.raises(ValueError, match="centering"):
            center(x)


def run(centering: RunningCentering, x: np.ndarray) -> list[CenteredFrame]:
    state, frames = centering.initial_state(), []
    for sample in np.moveaxis(x, -1, 0):
        state, frame = centering.step(state, sample)
        frames.append(frame)
    return frames


def assert_is_last_column(frame: CenteredFrame, whole: Centered, target: int | None = None) -> None:
    at = () if target is None else target
    assert frame.value[at] == pytest.approx(whole.merged[-1], abs=1e-9)
    assert frame.spread[at] == pytest.approx(whole.folds[:, -1].std(), abs=1e-9)
    np.testing.assert_allclose(frame.weights[at], whole.weights, atol=1e-9)


class TestRunning:
    @settings(max_examples=150)
    @given(series(st.integers(1, 4), st.integers(1, 40)), st.integers(1, 13), st.booleans())
    def test_newest_value_is_the_last_column_of_the_window_centered(
        self, x: np.ndarray, window: int, mixed: bool
    ) -> None:
        frames = run(RunningCentering(len(x), window, mixed=mixed), x)
        for n, frame in enumerate(frames, start=1):
            assert_is_last_column(frame, center(x[:, max(0, n - window) : n], mixed=mixed))

    def test_targets_side_by_side_are_two_runs(self) -> None:
        x = np.stack([wavy(6, 700, seed=1), wavy(6, 700, seed=2)])
        together = run(RunningCentering(6, targets=2), x)
        for target in range(2):
            for one, both in zip(run(RunningCentering(6), x[target]), together, strict=True):
                assert both.value[target] == one.value
                assert both.spread[target] == one.spread
                assert (both.weights[target] == one.weights).all()

    def test_any_earlier_state_can_be_resumed_any_number_of_times(self) -> None:
        x, other = wavy(3, 60), wavy(3, 60, seed=9)
        centering = RunningCentering(3, window=7)
        state, states, frames = centering.initial_state(), [], []
        for sample in x.T:
            states.append(state)
            state, frame = centering.step(state, sample)
            frames.append(frame)
        for start in reversed(range(60)):
            for replayed in (other, x):
                state = states[start]
                for n in range(start, min(start + 10, 60)):
                    state, frame = centering.step(state, replayed[:, n])
                    if replayed is x:
                        assert frame.value == frames[n].value

    def test_a_sample_changed_by_its_giver_afterwards_changes_nothing(self) -> None:
        x = wavy(3, 30)
        centering, sample, state = RunningCentering(3, window=8), np.empty(3), None
        state = centering.initial_state()
        for n in range(30):
            sample[:] = x[:, n]
            state, frame = centering.step(state, sample)
            assert_is_last_column(frame, center(x[:, max(0, n - 7) : n + 1]))

    def test_one_fold_is_unchanged(self) -> None:
        x = wavy(1, 30)
        assert [float(frame.value) for frame in run(RunningCentering(1, 5), x)] == x[0].tolist()

    @pytest.mark.parametrize("frames", [10_000, pytest.param(60_000, marks=pytest.mark.slow)])
    def test_errors_do_not_add_up(self, frames: int) -> None:
        """Offsets of a thousand, with a jump to a million and back early on.

        Windows that hold the jump are left out: there 1e-9 is below float64's resolution.
        """
        rng = np.random.default_rng(3)
        centering, window = RunningCentering(6, targets=2), np.zeros((2, 6, 0))
        state, checked = centering.initial_state(), 0
        for start in range(0, frames, 5_000):
            base = np.sin(np.arange(start, start + 5_000) / 50) + 1e3
            block = base + rng.normal(0, 0.3, (2, 6, 5_000)) + rng.normal(0, 0.2, (2, 6, 1))
            if start == 5_000:
                block[..., 100:103] *= 1e3
            joined = np.concatenate([window, block], axis=-1)
            for n in range(5_000):
                state, frame = centering.step(state, block[..., n])
                if n % 101 == 0 and not (start == 5_000 and n < 403):
                    end = window.shape[-1] + n + 1
                    for target in range(2):
                        assert_is_last_column(
                            frame, center(joined[target, :, max(0, end - 300) : end]), target
                        )
                    checked += 1
            window = joined[..., -300:]
        assert checked > frames // 105

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_values_that_are_not_finite_are_refused_and_the_state_stays_good(self, bad: float) -> None:
        centering = RunningCentering(2, 5)
        state, _ = centering.step(centering.initial_state(), [0.0, 1.0])
        with pytest.raises(ValueError, match="not finite"):
            centering.step(state, [0.0, bad])
        centering.step(state, [0.0, 1.0])

    def test_shapes_and_sizes_are_checked(self) -> None:
        with pytest.raises(ValueError, match=r"samples \(2, 6\)"):
            RunningCentering(6, targets=2).step(RunningCentering(6, targets=2).initial_state(), np.zeros(6))
        refused: tuple[dict[str, Any], ...] = (
            {"folds": 0},
            {"folds": 2, "window": 0},
            {"folds": 2, "targets": 0},
        )
        for sizes in refused:
            with pytest.raises(ValueError, match="positive sizes"):
                RunningCentering(**sizes)
