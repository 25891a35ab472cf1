"""Which folds step and which serve while some rest, and the merge that follows them. Pure.

A fold that rests computes nothing. Called back, it first steps along unheard: for as many frames as its temporal
branches remember, until its outputs are what they would be had it never rested; then for a whole centering window
of such outputs. Only then is it merged again, so what is served is exact from the first frame.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.centering import CenteredFrame, RunningCentering, RunningState, leading_state


@dataclass(frozen=True)
class ActiveFolds:
    """At one frame: the first `stepping` folds compute, the first `serving` of them are merged.

    `ready` of them (between the two) have outputs that are exact; `returning` counts the frames since the
    folds behind `serving` were called back.
    """

    stepping: int
    serving: int
    ready: int
    returning: int = 0

    @classmethod
    def of(cls, folds: int) -> ActiveFolds:
        """So many folds, all at work."""
        return cls(folds, folds, folds)


def next_active_folds(before: ActiveFolds, wanted: int, memory: int, window: int) -> ActiveFolds:
    """The roster of the next frame, when `wanted` folds should serve.

    `memory` is how many frames before its own a fold's output depends on, `window` the centering window.
    Folds rest at once; those that return serve at their frame number `memory` + `window`.
    """
    if wanted <= before.serving:
        return ActiveFolds.of(wanted)
    returning = 1 + (before.returning if wanted <= before.stepping else 0)
    if returning >= memory + window:
        return ActiveFolds.of(wanted)
    return ActiveFolds(wanted, before.serving, wanted if returning > memory else before.serving, returning)


@dataclass(frozen=True, eq=False)
class MergeState:
    """The centering of the `serving` folds, and beside it that of all `ready` ones where those are more."""

    serving: int
    centering: RunningState
    ready: int = 0
    returning: RunningState | None = None


class FoldMerge:
    """Running centering over a number of folds that changes."""

    def __init__(self, folds: int, window: int, targets: int) -> None:
        self.folds = folds
        self._centerings = {n: RunningCentering(n, window, targets) for n in range(1, folds + 1)}

    def initial_state(self) -> MergeState:
        """A window with nothing in it, all folds at work."""
        return MergeState(self.folds, self._centerings[self.folds].initial_state())

    def restarted(self, state: MergeState) -> MergeState:
        """A window with nothing in it, the same folds at work."""
        return MergeState(state.serving, self._centerings[state.serving].initial_state())

    def step(
        self, state: MergeState, outputs: NDArray[np.float64], roster: ActiveFolds
    ) -> tuple[MergeState, CenteredFrame]:
        """One frame's outputs (F, K), of which the first `roster.ready` folds' count, merged over the first
        `roster.serving`.
        """
        state = self._seat(state, roster)
        centering, frame = self._centerings[roster.serving].step(state.centering, outputs[: roster.serving].T)
        return self._take_ready(replace(state, centering=centering), outputs, roster), frame

    def absorb(self, state: MergeState, outputs: NDArray[np.float64], roster: ActiveFolds) -> MergeState:
        """`step` where only the state is wanted."""
        state = self._seat(state, roster)
        centering = self._centerings[roster.serving].absorb(state.centering, outputs[: roster.serving].T)
        return self._take_ready(replace(state, centering=centering), outputs, roster)

    def _seat(self, state: MergeState, roster: ActiveFolds) -> MergeState:
        """The centering of exactly the folds that serve."""
        if roster.serving < state.serving:
            return MergeState(roster.serving, leading_state(state.centering, roster.serving))
        if roster.serving > state.serving:
            ready = state.returning if state.ready == roster.serving else None
            return MergeState(roster.serving, ready or self._centerings[roster.serving].initial_state())
        return state

    def _take_ready(self, state: MergeState, outputs: NDArray[np.float64], roster: ActiveFolds) -> MergeState:
        if roster.ready == roster.serving:
            return replace(state, ready=0, returning=None)
        centering = self._centerings[roster.ready]
        before = state.returning
        if before is not None and state.ready > roster.ready:
            before = leading_state(before, roster.ready)
        elif state.ready < roster.ready:
            before = None
        after = centering.absorb(before or centering.initial_state(), outputs[: roster.ready].T)
        return replace(state, ready=roster.ready, returning=after)
