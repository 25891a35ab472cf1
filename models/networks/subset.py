"""Parts of an ensemble as ensembles of their own: its first folds, or some of its branches.

Nothing is copied: the smaller ensemble's tensors are the whole one's, or views of them. A machine that cannot keep up
with all folds lets some of them rest; here is also what becomes of the states of their branches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from models.networks.ensemble import BranchState, Ensemble
from models.networks.network_stack import NetworkStack
from models.networks.tcn import TemporalState
from models.visual.stacked import ServedTrunk

if TYPE_CHECKING:
    from collections.abc import Collection

    from models.spec import Modality


def can_rest(ensemble: Ensemble) -> bool:
    """Whether folds can rest: there are several, and all are of one shape."""
    return ensemble.folds > 1 and len(ensemble.stacks) == 1


def first_folds(ensemble: Ensemble, folds: int) -> Ensemble:
    """The first `folds` of an ensemble as one of their own, sharing its tensors.

    Raises ValueError where there are not so many, or where folds cannot rest (`can_rest`).
    """
    if folds == ensemble.folds:
        return ensemble
    if not (can_rest(ensemble) and 0 < folds < ensemble.folds):
        raise ValueError(f"an ensemble of {ensemble.folds} folds cannot serve with {folds} of them")
    layout = ensemble.layout.first_folds(folds)
    trunks = [ensemble.trunks[t] for t in ensemble.layout.trunks(layout.networks)]
    return Ensemble(
        ensemble.spec,
        layout,
        [stack.first_networks(layout.networks) for stack in _stacks(ensemble)],
        [trunk for trunk in trunks if isinstance(trunk, ServedTrunk)],
    )


def steps_alone(ensemble: Ensemble, branches: Collection[Modality], *, fuses: bool) -> Ensemble:
    """Nothing but an ensemble's temporal branches of some modalities and, where it `fuses`, fusion and heads."""
    stacks = [stack.steps_alone(branches, fuses=fuses) for stack in _stacks(ensemble)]
    return Ensemble(ensemble.spec, ensemble.layout, stacks, ())


def narrow(state: BranchState, networks: int) -> BranchState:
    """A branch's state for the first `networks` networks alone."""
    return BranchState(
        tuple(
            None if stack is None else TemporalState(tuple(past[:networks].clone() for past in stack.history))
            for stack in state.stacks
        )
    )


def widen(state: BranchState, fresh: BranchState) -> BranchState:
    """A branch's state with further networks after its own, which begin as they are in `fresh`, a state of all."""
    stacks: list[TemporalState | None] = []
    for ours, theirs in zip(state.stacks, fresh.stacks, strict=True):
        if ours is None or theirs is None:
            stacks.append(None)
            continue
        pairs = zip(ours.history, theirs.history, strict=True)
        stacks.append(TemporalState(tuple(torch.cat([own, new[len(own) :]]) for own, new in pairs)))
    return BranchState(tuple(stacks))


def _stacks(ensemble: Ensemble) -> list[NetworkStack]:
    return [stack for stack in ensemble.stacks if isinstance(stack, NetworkStack)]
