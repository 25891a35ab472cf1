"""The CCC loss (report section 3.4), and frame-wise companions."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

_LEAST: Final = 1e-8
"""What the denominator is held above: a constant estimate that equals a constant label has none."""


def ccc_loss(estimates: Tensor, labels: Tensor) -> Tensor:
    """1 - CCC over time of each window and target, averaged: estimates and labels (B, T, K) to a scalar.

    CCC is 2 cov(g, p) / (var(g) + var(p) + (mean(g) - mean(p))^2), all over the labelled frames of one window. A
    frame whose label is NaN counts nowhere, a window and target without a label has no loss; with no label at all
    the loss is a zero that has a gradient of zero. Computed in float32 or wider, whatever the estimates are.
    """
    estimates = estimates.to(torch.promote_types(estimates.dtype, torch.float32))
    known = ~torch.isnan(labels)
    # Estimates where no label is are cut off, not multiplied by zero: a NaN there would not go away.
    estimates = torch.where(known, estimates, 0.0)
    labels = torch.where(known, labels, 0.0).to(estimates.dtype)
    count = known.sum(dim=1, keepdim=True).clamp_min(1)
    mean_p = estimates.sum(dim=1, keepdim=True) / count
    mean_g = labels.sum(dim=1, keepdim=True) / count
    p = torch.where(known, estimates - mean_p, 0.0)
    g = torch.where(known, labels - mean_g, 0.0)
    covariance, var_p, var_g = ((a * b).sum(dim=1) / count[:, 0] for a, b in ((p, g), (p, p), (g, g)))
    apart = var_p + var_g + (mean_p - mean_g)[:, 0] ** 2
    losses = 1 - 2 * covariance / apart.clamp_min(_LEAST)
    labelled = known.any(dim=1)
    return torch.where(labelled, losses, 0.0).sum() / labelled.sum().clamp_min(1)


def frame_loss(estimates: Tensor, labels: Tensor) -> Tensor:
    """1 - CCC over all frames of (B, T, K) as one series, and the squared error: a scalar.

    Within a window in which a feeling is held, CCC has nothing to agree with; across windows it has, and the squared
    error holds level and scale.
    """
    series = estimates.flatten(0, 1)[None], labels.flatten(0, 1)[None]
    return ccc_loss(*series) + squared_error(*series)


def squared_error(estimates: Tensor, labels: Tensor) -> Tensor:
    """Mean squared error over the labelled frames of (..., K); zero, with a gradient of zero, without any."""
    known = ~torch.isnan(labels)
    difference = torch.where(known, estimates - torch.where(known, labels, 0.0), 0.0)
    return (difference**2).sum() / known.sum().clamp_min(1)
