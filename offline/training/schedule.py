"""The training schedule as pure logic: warm-up, plateau, gradual release, early stopping (report section 3.4).

An epoch's learning rate comes from the state before it, and what is to be done after it from `step`. Per phase (a
phase begins when training does, and when a group is released): the rate rises linearly over `warm_up` epochs; then it
is multiplied by `factor` whenever validation CCC has not improved for more than `patience` epochs. Where it falls
below `least_learning_rate`, the next group is released and a phase begins anew; with no group left, training ends.

Early stopping counts epochs of a phase without a new best, those of the warm-up left out: a released group is heard
at its full rate before it is judged. With the report's figures (10 epochs, patience 5) a phase reaches its least
rate only where a lower rate brings new bests on the way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

# What torch's ReduceLROnPlateau asks of an improvement, relative to the best.
PLATEAU_THRESHOLD: Final = 1e-4

Stop = Literal["plateau", "early stopping", "epochs"]


class ScheduleOptions(BaseModel):
    """The schedule's figures; the defaults are the report's. The descriptions are help texts of `offline-train`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    learning_rate: Annotated[float, Field(gt=0, description="Learning rate after the warm-up.")] = 1e-5
    least_learning_rate: Annotated[
        float,
        Field(gt=0, description="When the rate falls below this, the next backbone group is released."),
    ] = 1e-7
    warm_up: Annotated[
        int, Field(ge=0, description="Epochs over which the rate rises to its full value.")
    ] = 10
    patience: Annotated[
        int, Field(ge=0, description="Epochs without improvement that are tolerated before the rate falls.")
    ] = 5
    factor: Annotated[
        float, Field(gt=0, lt=1, description="What the rate is multiplied by when it falls.")
    ] = 0.1
    early_stopping: Annotated[
        int, Field(gt=0, description="Epochs without a new best result after which training ends.")
    ] = 10
    epochs: Annotated[int, Field(gt=0, description="Most epochs to train.")] = 100
    release: Annotated[
        tuple[str, ...],
        Field(
            description="Groups of backbone layers to train too, one after the other (layer4, layer3_tail), "
            "separated by commas; empty for none."
        ),
    ] = ("layer4", "layer3_tail")


@dataclass(frozen=True)
class ScheduleState:
    """Where training is, between two epochs.

    `epoch` epochs are done, `phase_epoch` of them in this phase; `rate` is the phase's rate without warm-up; `best`
    is the best validation CCC (-1 at worst, None before the first epoch) of epoch `best_epoch`; `plateau_best` and
    `plateau_epochs` are the plateau's own best and how many epochs did not improve on it; `stale` is the
    early-stopping counter; `stopped` says why training is over.
    """

    rate: float
    epoch: int = 0
    phase: int = 0
    phase_epoch: int = 0
    best: float | None = None
    best_epoch: int = 0
    plateau_best: float | None = None
    plateau_epochs: int = 0
    stale: int = 0
    stopped: Stop | None = None


@dataclass(frozen=True)
class Actions:
    """What to do after an epoch, in this order.

    `keep`: the weights are the new best. The best are then loaded, always. `release`: release this group, with a new
    optimiser. `stop`: training is over.
    """

    keep: bool
    release: str | None = None
    stop: Stop | None = None


def initial_state(options: ScheduleOptions) -> ScheduleState:
    """Before the first epoch."""
    return ScheduleState(rate=options.learning_rate)


def learning_rate(state: ScheduleState, options: ScheduleOptions) -> float:
    """The rate of the next epoch: a share of `state.rate` in the warm-up, the last epoch of which has all of it."""
    if state.phase_epoch < options.warm_up:
        return state.rate * (state.phase_epoch + 1) / options.warm_up
    return state.rate


def released(state: ScheduleState, options: ScheduleOptions) -> tuple[str, ...]:
    """The groups released so far."""
    return options.release[: state.phase]


def step(
    state: ScheduleState, validation_ccc: float, options: ScheduleOptions
) -> tuple[ScheduleState, Actions]:
    """An epoch is done and reached `validation_ccc`. Raises ValueError after the end, or for a CCC not finite."""
    if state.stopped is not None:
        raise ValueError(f"training is over: {state.stopped}")
    if not math.isfinite(validation_ccc):
        raise ValueError(f"a validation CCC of {validation_ccc} judges nothing")
    keep = state.best is None or validation_ccc > state.best
    warming = state.phase_epoch < options.warm_up
    state = replace(
        state,
        epoch=state.epoch + 1,
        phase_epoch=state.phase_epoch + 1,
        stale=0 if keep or warming else state.stale + 1,
    )
    if keep:
        state = replace(state, best=validation_ccc, best_epoch=state.epoch)
    if not warming:
        state = _plateau(state, validation_ccc, options)
    release: str | None = None
    stop: Stop | None = None
    # A rate that is the least one but for rounding has not fallen below it.
    if state.rate < options.least_learning_rate * (1 - 1e-9):
        if state.phase < len(options.release):
            release = options.release[state.phase]
            state = replace(
                state,
                rate=options.learning_rate,
                phase=state.phase + 1,
                phase_epoch=0,
                plateau_best=None,
                plateau_epochs=0,
                stale=0,
            )
        else:
            stop = "plateau"
    elif state.stale >= options.early_stopping:
        stop = "early stopping"
    if stop is None and state.epoch >= options.epochs:
        stop = "epochs"
    return replace(state, stopped=stop), Actions(keep=keep, release=release, stop=stop)


def _plateau(state: ScheduleState, ccc: float, options: ScheduleOptions) -> ScheduleState:
    """Reduce-on-plateau, mode max, as torch has it."""
    best = state.plateau_best
    if best is None or ccc > best * (1 + PLATEAU_THRESHOLD):
        return replace(state, plateau_best=ccc, plateau_epochs=0)
    if state.plateau_epochs + 1 > options.patience:
        return replace(state, rate=state.rate * options.factor, plateau_epochs=0)
    return replace(state, plateau_epochs=state.plateau_epochs + 1)
