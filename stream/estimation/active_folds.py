"""Which folds compute and which are merged while others rest, and the merge over them. Pure.

A fold that rests computes nothing. Called back, it first computes without being merged: for as many frames as its
temporal branches remember, until its outputs are what they would be had it never rested; then for a whole centering
window of such outputs. Only then is it merged again, so that its part in the merge is exact from the first frame.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from models.centering import CenteredFrame, RunningCentering, RunningState, state_of_first

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class ActiveFolds:
    """At one frame: the first `stepping` folds compute, the first `serving` of them are merged.

    `ready` (from `serving` to `stepping`) of them have exact outputs; `returning` counts the frames since the folds
    after the first `serving` were called back.
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
    """The folds at work on the next frame, when `wanted` folds should serve.

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
    """The centering of the `serving` folds, and in `returning` that of all `ready` ones where those are more."""

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
        self, state: MergeState, outputs: NDArray[np.float64], active: ActiveFolds
    ) -> tuple[MergeState, CenteredFrame]:
        """One frame's outputs (F, K), of which the first `active.ready` folds' count, merged over the first
        `active.serving`.
        """
        state = self._center_serving(state, active)
        centering, frame = self._centerings[active.serving].step(state.centering, outputs[: active.serving].T)
        return self._absorb_ready(replace(state, centering=centering), outputs, active), frame

    def absorb(self, state: MergeState, outputs: NDArray[np.float64], active: ActiveFolds) -> MergeState:
        """A `step` without its frame: only the state."""
        state = self._center_serving(state, active)
        centering = self._centerings[active.serving].absorb(state.centering, outputs[: active.serving].T)
        return self._absorb_ready(replace(state, centering=centering), outputs, active)

    def _center_serving(self, state: MergeState, active: ActiveFolds) -> MergeState:
        """The state with a centering of exactly the folds that serve."""
        if active.serving < state.serving:
            return MergeState(active.serving, state_of_first(state.centering, active.serving))
        if active.serving > state.serving:
            ready = state.returning if state.ready == active.serving else None
            return MergeState(active.serving, ready or self._centerings[active.serving].initial_state())
        return state

    def _absorb_ready(
        self, state: MergeState, outputs: NDArray[np.float64], active: ActiveFolds
    ) -> MergeState:
        """The state with the outputs in the centering of the ready folds, where those are more than serve."""
        if active.ready == active.serving:
            return replace(state, ready=0, returning=None)
        centering = self._centerings[active.ready]
        before = state.returning
        if before is not None and state.ready > active.ready:
            before = state_of_first(before, active.ready)
        elif state.ready < active.ready:
            before = None
        after = centering.absorb(before or centering.initial_state(), outputs[: active.ready].T)
        return replace(state, ready=active.ready, returning=after)
