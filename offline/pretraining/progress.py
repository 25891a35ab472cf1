"""How learning from sentences and from comments goes on after a kill, and how fast it learns at each step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from models.errors import UserError
from offline.files import Json
from offline.tensors import load_tensors, save_tensors
from offline.training.checkpoint import (
    optimizer_tensors,
    random_tensors,
    restore_optimizer,
    restore_random,
)

FORMAT_VERSION: Final = 1

_LEARNER: Final = "learner/"
_FIRST_SHARE: Final = 1 / 25
_LAST_SHARE: Final = 1e-4 / 25
_BETAS: Final = (0.85, 0.95)


@dataclass(frozen=True)
class WordsEpoch:
    """An epoch of `part` (voice or text) is done: the mean loss of its batches, figures, and how long it took."""

    part: str
    epoch: int
    epochs: int
    loss: float
    figures: Json
    seconds: float


Report = Callable[[WordsEpoch], None]


@dataclass(frozen=True, eq=False)
class Progress:
    """What learning changes, and the file that remembers it after each epoch.

    `identity` says which data and options it is of; another's checkpoint is refused.
    """

    path: Path
    identity: Json
    learner: nn.Module
    optimizer: torch.optim.Optimizer
    random: np.random.Generator

    def save(self, epoch: int, log: list[Json]) -> None:
        """After so many epochs, each with an entry in `log`. Raises UserError where it cannot be written."""
        slots, groups = optimizer_tensors(self.optimizer)
        randoms, rest = random_tensors(self.random)
        weights: dict[str, Tensor] = {f"{_LEARNER}{k}": v for k, v in self.learner.state_dict().items()}
        state = {
            "format_version": FORMAT_VERSION,
            "identity": self.identity,
            "epoch": epoch,
            "log": log,
            "optimizer": groups,
            "random": rest,
        }
        save_tensors(self.path, weights | slots | randoms, state)

    def restore(self) -> tuple[int, list[Json]]:
        """How many epochs are done, and their log: none where there is no checkpoint.

        Raises UserError where the checkpoint is damaged or of other data or options.
        """
        if not self.path.is_file():
            return 0, []
        tensors, state = load_tensors(self.path)
        if state.get("format_version") != FORMAT_VERSION or state.get("identity") != self.identity:
            raise UserError(
                f"{self.path} is of another pretraining: remove it, or give the same data and options"
            )
        self.learner.load_state_dict(
            {k.removeprefix(_LEARNER): v for k, v in tensors.items() if k.startswith(_LEARNER)}
        )
        restore_optimizer(self.optimizer, tensors, state["optimizer"])
        restore_random(self.random, tensors, state["random"])
        return int(state["epoch"]), list(state["log"])


def set_one_cycle(
    optimizer: torch.optim.Optimizer, step: int, total: int, peak: float, rising: float
) -> None:
    """The rate and momentum of AdamW's step number `step` of `total` (Smith and Topin 2018).

    The rate rises as a cosine to `peak` over the share `rising` of all steps, then falls to nearly nothing; momentum
    goes the other way.
    """
    top = rising * total - 1
    low, high = _BETAS
    if step <= top:
        rate, beta = (
            _anneal(peak * _FIRST_SHARE, peak, step / max(top, 1)),
            _anneal(high, low, step / max(top, 1)),
        )
    else:
        share = min(1.0, (step - top) / max(total - 1 - top, 1))
        rate, beta = _anneal(peak, peak * _LAST_SHARE, share), _anneal(low, high, share)
    for group in optimizer.param_groups:
        group["lr"], group["betas"] = rate, (beta, group["betas"][1])


def batch_ccc_loss(estimates: Tensor, labels: Tensor) -> Tensor:
    """1 - CCC over a batch (N, K) as one series, averaged over targets; small where both are constant."""
    a, b = estimates - estimates.mean(0), labels - labels.mean(0)
    apart = a.pow(2).mean(0) + b.pow(2).mean(0) + (estimates.mean(0) - labels.mean(0)).pow(2)
    return (1 - 2 * (a * b).mean(0) / (apart + 1e-6)).mean()


def check_finite(loss: float, part: str, epoch: int) -> None:
    """Raises UserError for a loss that is no number."""
    if not math.isfinite(loss):
        raise UserError(
            f"pretraining the {part} encoder has diverged in epoch {epoch}: lower its learning rate"
        )


def _anneal(begin: float, end: float, share: float) -> float:
    return end + (begin - end) / 2 * (1 + math.cos(math.pi * share))
