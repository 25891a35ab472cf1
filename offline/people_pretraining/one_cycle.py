"""The one-cycle schedule (Smith and Topin 2019) as a function of the step: nothing of it need be remembered.

It is PyTorch's `OneCycleLR` to within rounding (a relative 1e-14), and not that class for three reasons: the class
has a state that a run which goes on after a kill would have to keep beside the optimizer's; where the rise has a
single step (5 steps in all, 0.2 of them rising) it divides by zero; and its rates differ in their last bits, so that
encoders would no longer come out as those that are shipped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class OneCycle:
    """The rate rises as a cosine over the part `rising` of all steps, from `first` of its peak, and then falls to
    `last` of it; momentum goes the other way, from `momentum[1]` to `momentum[0]` and back.
    """

    rising: float
    momentum: tuple[float, float] = (0.85, 0.95)
    first: float = 1 / 25
    last: float = 1e-4 / 25

    def at(self, step: int, total: int) -> tuple[float, float]:
        """Of step `step` of `total`, counted from 0: the share of the peak rate, and the momentum."""
        peak = self.rising * total - 1
        low, high = self.momentum
        if step <= peak:
            part = step / peak if peak > 0 else 1.0
            return _cosine(self.first, 1.0, part), _cosine(high, low, part)
        part = min(1.0, (step - peak) / max(total - 1 - peak, 1))
        return _cosine(1.0, self.last, part), _cosine(low, high, part)

    def apply(self, optimizer: torch.optim.Optimizer, step: int, total: int, peak_rate: float) -> None:
        """Set AdamW's rate and momentum for a step."""
        share, momentum = self.at(step, total)
        for group in optimizer.param_groups:
            group["lr"], group["betas"] = peak_rate * share, (momentum, group["betas"][1])


def _cosine(start: float, end: float, part: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * part))
