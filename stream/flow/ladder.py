"""The ladder: what a live engine leaves out, step by step, while the machine is too slow for everything. Pure.

    rung          what is left out
    full          nothing
    visual-2      the face and its embedding are found in every second frame, and kept for the other
    visual-3      in every third
    audio-3       the sound's embedding too
    half-folds    half of the folds rest
    one-fold      all but one

It goes down as soon as the engine does not keep up, and up again when there has been room for a while; after each
climb that failed it waits longer before the next. A recording is never degraded: it waits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

from models.errors import UserError


@dataclass(frozen=True)
class Rung:
    """What is computed: every `visual_stride`-th picture and `audio_stride`-th patch, `fold_share` of the folds."""

    name: str
    visual_stride: int = 1
    audio_stride: int = 1
    fold_share: float = 1.0

    def folds(self, of: int) -> int:
        """How many of `of` folds compute: at least one."""
        return max(1, math.ceil(of * self.fold_share))


FULL: Final = Rung("full")
RUNGS: Final = (
    FULL,
    Rung("visual-2", 2),
    Rung("visual-3", 3),
    Rung("audio-3", 3, 3),
    Rung("half-folds", 3, 3, 0.5),
    Rung("one-fold", 3, 3, 0.0),
)
AUTO: Final = "auto"
BUDGETS: Final = (AUTO, *(rung.name for rung in RUNGS))

REVIEW_S: Final = 0.5
"""How often the load is judged."""


@dataclass(frozen=True)
class LadderSettings:
    """When to step. `load` is the busiest stage's working time as a share of all time: at 1 it is never idle.

    Down after `high_reviews` in a row above `high`, up after a patience of reviews in a row below `low`:
    `least_patience` at first, twice as many after each climb that did not last `trial_reviews`, at most
    `most_patience`; a rung that held for `most_patience` reviews makes it `least_patience` again.
    """

    high: float = 0.9
    low: float = 0.55
    high_reviews: int = 2
    least_patience: int = 10
    most_patience: int = 240
    trial_reviews: int = 20


@dataclass(frozen=True)
class LadderState:
    """Where on the ladder (0 is full), how long it has been too busy or had room, and how patient it has become.

    `held`: reviews since the last step; `climbed`: that step was up.
    """

    rung: int = 0
    busy: int = 0
    roomy: int = 0
    held: int = 0
    climbed: bool = False
    patience: int = 10


class Ladder:
    """Decides which rung to stand on by the load, one review at a time."""

    def __init__(self, settings: LadderSettings | None = None, rungs: tuple[Rung, ...] = RUNGS) -> None:
        self.settings = settings or LadderSettings()
        self.rungs = rungs

    def initial_state(self) -> LadderState:
        """At the top."""
        return LadderState(patience=self.settings.least_patience)

    def step(self, state: LadderState, load: float) -> tuple[LadderState, Rung]:
        """One review: `load` at least 0, above 1 where it did not keep up. Moves one rung at most."""
        s = self.settings
        state = replace(
            state,
            busy=state.busy + 1 if load > s.high else 0,
            roomy=state.roomy + 1 if load < s.low else 0,
            held=state.held + 1,
        )
        if state.held >= s.most_patience:
            state = replace(state, patience=s.least_patience)
        if state.busy >= s.high_reviews and state.rung < len(self.rungs) - 1:
            failed = state.climbed and state.held <= s.trial_reviews
            patience = min(s.most_patience, 2 * state.patience) if failed else state.patience
            state = LadderState(state.rung + 1, patience=patience)
        elif state.roomy >= state.patience and state.rung > 0:
            state = LadderState(state.rung - 1, climbed=True, patience=state.patience)
        return state, self.rungs[state.rung]


def find_rung(name: str) -> Rung | None:
    """The rung of that name, None for `auto`. Raises UserError for a name that is neither."""
    if name == AUTO:
        return None
    for rung in RUNGS:
        if rung.name == name:
            return rung
    raise UserError(f"'{name}' is no budget: choose one of {', '.join(BUDGETS)}")
