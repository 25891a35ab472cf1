"""The CCC loss: the concordance of each window over time, labelled frames only."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.centering import ccc
from offline.training.loss import ccc_loss, squared_error


def series(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


@given(st.integers(0, 500), st.integers(2, 50))
def test_it_is_one_minus_ccc_of_each_window_and_target_averaged(seed: int, frames: int) -> None:
    p, g = series(seed, 2, frames, 2), series(seed + 1, 2, frames, 2)
    expected = np.mean([1 - ccc(p[b, :, k], g[b, :, k]) for b in range(2) for k in range(2)])
    assert float(ccc_loss(p, g)) == pytest.approx(expected, abs=1e-6)


@given(st.integers(0, 500))
def test_frames_without_a_label_carry_no_loss_and_no_gradient(seed: int) -> None:
    p, g = series(seed, 1, 20, 1), series(seed + 1, 1, 20, 1)
    hidden = torch.from_numpy(np.random.default_rng(seed).random((1, 20, 1)) < 0.5)
    hidden[0, :2] = False
    estimates = torch.where(hidden, float("nan"), p).requires_grad_()
    loss = ccc_loss(estimates, torch.where(hidden, float("nan"), g))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(1 - ccc(p[~hidden], g[~hidden]), abs=1e-6)
    assert estimates.grad is not None
    assert bool((estimates.grad[hidden] == 0).all())
    assert bool(torch.isfinite(estimates.grad).all())


def test_a_window_without_labels_counts_nowhere() -> None:
    p, g = series(0, 2, 10, 1), series(1, 2, 10, 1)
    g[1] = float("nan")
    assert float(ccc_loss(p, g)) == pytest.approx(float(ccc_loss(p[:1], g[:1])))
    g[:] = float("nan")
    p.requires_grad_()
    loss = ccc_loss(p, g)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert p.grad is not None
    assert not p.grad.any()


def test_agreement_has_no_loss_and_its_opposite_has_two() -> None:
    g = series(0, 1, 30, 2)
    g = g - g.mean(dim=1, keepdim=True)
    assert float(ccc_loss(g, g)) == pytest.approx(0)
    assert float(ccc_loss(-g, g)) == pytest.approx(2)
    constant = torch.full((1, 30, 2), 0.25)
    assert bool(torch.isfinite(ccc_loss(constant, constant)))


def test_it_is_computed_wide_even_where_estimates_are_narrow() -> None:
    g = series(0, 1, 300, 1).float()
    p = (g + 0.1).bfloat16()
    assert ccc_loss(p, g).dtype == torch.float32


def test_its_gradient_is_right() -> None:
    p, g = series(0, 2, 7, 2).requires_grad_(), series(1, 2, 7, 2)
    g[0, 3] = float("nan")
    assert torch.autograd.gradcheck(lambda x: ccc_loss(x, g), (p,))


def test_squared_error_counts_labelled_frames() -> None:
    p = torch.tensor([[1.0, 2.0], [5.0, 5.0]])
    g = torch.tensor([[0.0, float("nan")], [2.0, 5.0]])
    assert float(squared_error(p, g)) == pytest.approx((1 + 9 + 0) / 3)
    assert float(squared_error(p, torch.full_like(g, float("nan")))) == 0
