"""The one-cycle schedule: PyTorch's own, without anything to remember."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from offline.people_pretraining.one_cycle import OneCycle


@given(st.integers(1, 400), st.sampled_from([0.15, 0.2]))
def test_it_is_torch_s(total: int, rising: float) -> None:
    cycle = OneCycle(rising)
    if total < 10:
        # PyTorch divides by zero where the rise has no step; ours begins at the top.
        assert all(0 < cycle.at(step, total)[0] <= 1 for step in range(total))
        return
    ours, theirs = (torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=0.01) for _ in range(2))
    schedule = torch.optim.lr_scheduler.OneCycleLR(theirs, 0.01, total_steps=total, pct_start=rising)
    for step in range(total):
        cycle.apply(ours, step, total, 0.01)
        assert ours.param_groups[0]["lr"] == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-9, abs=1e-12)
        assert ours.param_groups[0]["betas"] == pytest.approx(theirs.param_groups[0]["betas"])
        theirs.step()
        if step + 1 < total:
            schedule.step()


def test_it_is_defined_where_torch_s_divides_by_zero() -> None:
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=0.01)
    with pytest.raises(ZeroDivisionError):
        torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=5, pct_start=0.2)
    assert OneCycle(0.2).at(0, 5) == (1.0, 0.85)
