"""What training says while it runs: events, and each event's line of text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.errors import UserError

if TYPE_CHECKING:
    from offline.files import Json


@dataclass(frozen=True)
class FoldStarted:
    """A fold begins or goes on: at most `epochs`, `windows` to train on, `cached` entries to look for first."""

    fold: int
    epochs: int
    windows: int
    cached: int


@dataclass(frozen=True)
class CacheFilled:
    """One more entry of the caches is there."""

    fold: int


@dataclass(frozen=True)
class StepDone:
    """Step `step` of the `steps` of epoch `epoch`, both counted from 1, and its loss."""

    fold: int
    epoch: int
    step: int
    steps: int
    loss: float
    rate: float


@dataclass(frozen=True)
class EpochDone:
    """An epoch's line of history; `best` is the best mean validation CCC so far."""

    fold: int
    line: Json
    best: float
    release: str | None
    stopped: str | None


@dataclass(frozen=True)
class FoldDone:
    """A fold is finished: what its `result.json` says."""

    fold: int
    result: Json


@dataclass(frozen=True)
class FoldFailed:
    """A fold ended before it was finished: why, in one line. A `fault` of ours has all that is known in `trace`."""

    fold: int
    reason: str
    fault: bool = False
    trace: str = ""


@dataclass(frozen=True)
class Note:
    """A line that the user should read."""

    text: str


TrainingEvent = FoldStarted | CacheFilled | StepDone | EpochDone | FoldDone | FoldFailed | Note


Report = Callable[[TrainingEvent], None]
"""Is told events as they come."""


class FoldError(UserError):
    """What a user can do something about in one fold's training; its message begins with the fold's number."""


def epoch_text(event: EpochDone, epochs: int) -> str:
    """An epoch in one line."""
    line = event.line
    cccs = ", ".join(f"{t} {value:.3f}" for t, value in line["validation_ccc"].items())
    text = (
        f"fold {event.fold}: epoch {line['epoch']}/{epochs}, phase {line['phase']}, lr {line['learning_rate']:.1e}, "
        f"loss {line['loss']:.3f}, CCC {cccs}{' (best)' if line['best'] else ''}, {line['seconds']:.1f} s"
    )
    return text if event.release is None else f"{text}; {event.release} is released"


def result_text(result: Json) -> str:
    """A finished fold in one line."""
    cccs = ", ".join(f"{t} {value:.3f}" for t, value in result["validation_ccc"].items())
    return (
        f"fold {result['fold']}: finished ({result['stopped']}) after {result['epochs']} epochs, "
        f"best epoch {result['best_epoch']}, validation CCC {cccs}"
    )


def failure_text(event: FoldFailed) -> str:
    """Why a fold failed, in one line; of a fault of ours all that is known."""
    return f"fold {event.fold}: {event.trace.rstrip()}" if event.trace else event.reason
