"""The schedule: warm-up, plateau, gradual release, early stopping, as the report has them."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import ReduceLROnPlateau

from offline.training.schedule import (
    Actions,
    ScheduleOptions,
    ScheduleState,
    initial_state,
    learning_rate,
    released,
    step,
)

REPORT = ScheduleOptions()
PATIENT = ScheduleOptions(early_stopping=1000)

cccs = st.lists(st.floats(-1, 1), min_size=1, max_size=150)
options = st.builds(
    ScheduleOptions,
    learning_rate=st.sampled_from([1e-3, 1e-5]),
    least_learning_rate=st.sampled_from([1e-5, 1e-7]),
    warm_up=st.integers(0, 5),
    patience=st.integers(0, 5),
    early_stopping=st.integers(1, 12),
    epochs=st.integers(1, 100),
    release=st.sampled_from([(), ("layer4",), ("layer4", "layer3_tail")]),
)


def play(series: list[float], figures: ScheduleOptions) -> list[tuple[float, ScheduleState, Actions]]:
    """(the rate of the epoch, the state after it, what to do after it) for each epoch until the end."""
    state = initial_state(figures)
    played = []
    for ccc in series:
        rate = learning_rate(state, figures)
        state, actions = step(state, ccc, figures)
        played.append((rate, state, actions))
        if actions.stop:
            break
    return played


def test_the_rate_rises_linearly_to_the_report_s_over_ten_epochs() -> None:
    rates = [rate for rate, _, _ in play([i / 100 for i in range(12)], REPORT)]
    assert rates[:10] == pytest.approx([1e-6 * i for i in range(1, 11)])
    assert rates[10:] == [1e-5, 1e-5]


def test_a_plateau_releases_layer4_then_layer3_s_tail_and_then_ends() -> None:
    played = play([0.5] + [0.1] * 99, PATIENT)
    done = [(i + 1, a.release, a.stop) for i, (_, _, a) in enumerate(played) if a.release or a.stop]
    # 10 of warm-up, one that sets the plateau's best, then three falls of 6: 1e-6, 1e-7, below.
    assert done == [(29, "layer4", None), (58, "layer3_tail", None), (87, None, "plateau")]
    assert [rate for rate, _, _ in played][29:39] == pytest.approx([1e-6 * i for i in range(1, 11)])
    assert released(played[60][1], PATIENT) == ("layer4", "layer3_tail")


def test_the_least_rate_itself_is_still_used() -> None:
    rates = {f"{rate:.0e}" for rate, _, _ in play([0.5] + [0.1] * 28, PATIENT)[10:]}
    assert rates == {"1e-05", "1e-06", "1e-07"}


def test_early_stopping_after_ten_epochs_without_a_best_warm_up_left_out() -> None:
    played = play([0.5] + [0.1] * 99, REPORT)
    assert len(played) == 20
    assert played[-1][2].stop == "early stopping"


def test_training_ends_with_its_epochs() -> None:
    played = play([i / 1000 for i in range(200)], REPORT)
    assert len(played) == 100
    assert played[-1][2].stop == "epochs"


@given(cccs, options)
def test_the_best_is_the_best_and_is_kept_when_it_comes(
    series: list[float], figures: ScheduleOptions
) -> None:
    played = play(series, figures)
    for i, (_, state, actions) in enumerate(played):
        assert state.best == max(series[: i + 1])
        assert actions.keep == (i == 0 or series[i] > max(series[:i]))
        assert series[state.best_epoch - 1] == state.best


@given(cccs, options)
def test_rates_stay_within_their_bounds_and_only_a_phase_raises_them(
    series: list[float], figures: ScheduleOptions
) -> None:
    played = play(series, figures)
    for rate, _, _ in played:
        assert 0 < rate <= figures.learning_rate
    for (before, state, _), (after, _, _) in pairwise(played):
        if state.phase_epoch >= figures.warm_up and state.phase_epoch > 0:
            assert after <= before
    assert len(played) <= figures.epochs


@given(cccs, options)
def test_groups_are_released_in_order_each_once_with_everything_reset(
    series: list[float], figures: ScheduleOptions
) -> None:
    played = play(series, figures)
    names = [a.release for _, _, a in played if a.release]
    assert tuple(names) == figures.release[: len(names)]
    for _, state, actions in played:
        if actions.release:
            assert (state.phase_epoch, state.stale, state.plateau_epochs) == (0, 0, 0)
            assert state.plateau_best is None
            assert state.rate == figures.learning_rate
    assert all(a.stop is None for _, _, a in played[:-1])


@given(cccs, st.integers(0, 6))
def test_the_plateau_is_torch_s(series: list[float], patience: int) -> None:
    figures = ScheduleOptions(
        learning_rate=1.0,
        least_learning_rate=1e-6,
        warm_up=0,
        patience=patience,
        early_stopping=1000,
        release=(),
        epochs=1000,
    )
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    plateau = ReduceLROnPlateau(optimizer, mode="max", patience=patience, factor=0.1, eps=0)
    for ccc, (rate, _, _) in zip(series, play(series, figures), strict=False):
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"])
        plateau.step(ccc)


@given(cccs, options, st.integers(0, 100))
def test_stopping_and_going_on_is_the_same_as_never_stopping(
    series: list[float], figures: ScheduleOptions, at: int
) -> None:
    """A state says everything: rebuilt from its fields, it continues alike."""
    played = play(series, figures)
    _, state, _ = played[min(at, len(played) - 1)]
    again = ScheduleState(**vars(state))
    for i in range(min(at, len(played) - 1) + 1, len(played)):
        again, actions = step(again, series[i], figures)
        assert (again, actions) == (played[i][1], played[i][2])


def test_a_ccc_that_judges_nothing_is_refused_and_so_is_a_step_after_the_end() -> None:
    with pytest.raises(ValueError, match="judges nothing"):
        step(initial_state(REPORT), float("nan"), REPORT)
    over, _ = step(initial_state(ScheduleOptions(epochs=1)), 0.1, ScheduleOptions(epochs=1))
    with pytest.raises(ValueError, match="over"):
        step(over, 0.1, REPORT)
