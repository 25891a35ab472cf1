"""How learning from sentences and from comments goes on after a kill."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from models.errors import UserError
from offline.tensors import load_tensors, save_tensors
from offline.training.checkpoint import (
    optimizer_tensors,
    random_tensors,
    restore_optimizer,
    restore_random,
)

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import torch
    from torch import Tensor, nn

    from offline.files import Json

FORMAT_VERSION: Final = 1

_MODEL_PREFIX: Final = "learner/"


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
    model: nn.Module
    optimizer: torch.optim.Optimizer
    random: np.random.Generator

    def save(self, epoch: int, log: list[Json]) -> None:
        """After so many epochs, each with an entry in `log`. Raises UserError where it cannot be written."""
        slots, groups = optimizer_tensors(self.optimizer)
        randoms, rest = random_tensors(self.random)
        weights: dict[str, Tensor] = {f"{_MODEL_PREFIX}{k}": v for k, v in self.model.state_dict().items()}
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
        self.model.load_state_dict(
            {k.removeprefix(_MODEL_PREFIX): v for k, v in tensors.items() if k.startswith(_MODEL_PREFIX)}
        )
        restore_optimizer(self.optimizer, tensors, state["optimizer"])
        restore_random(self.random, tensors, state["random"])
        return int(state["epoch"]), list(state["log"])


def check_finite(loss: float, part: str, epoch: int) -> None:
    """Raises UserError for a loss that is no number."""
    if not math.isfinite(loss):
        raise UserError(
            f"pretraining the {part} encoder has diverged in epoch {epoch}: lower its learning rate"
        )
