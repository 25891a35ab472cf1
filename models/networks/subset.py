"""Parts of an ensemble as ensembles of their own: some folds while the others rest, or some branches of all.

Nothing is copied: the smaller ensemble's tensors are the whole one's, or views of them. Also what becomes of the
states of folds that rest, for a machine that cannot keep up with all of them.
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any

import torch
from torch import nn

from models.networks.ensemble import BranchState, Ensemble
from models.networks.tcn import StackedTemporal, TemporalState
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
    layout = ensemble.layout.leading(folds)
    networks = layout.networks
    (stack,) = ensemble.stacks
    # A deep copy whose tensors are all there already: the first networks' rows of the original's.
    tensors: dict[int, Any] = {id(t): t[:networks] for t in (*stack.parameters(), *stack.buffers())}
    stacks = nn.ModuleList([copy.deepcopy(stack, tensors)])
    for module in stacks.modules():
        if isinstance(module, StackedTemporal):
            module.networks = networks
    trunks = nn.ModuleList(ensemble.trunks[t] for t in ensemble.layout.trunks(networks))
    return Ensemble.of_parts(ensemble, stacks, trunks, layout)


def steps_alone(ensemble: Ensemble, branches: Collection[Modality], *, fuses: bool) -> Ensemble:
    """Nothing but an ensemble's temporal branches of some modalities and, where it `fuses`, fusion and heads."""
    tensors: dict[int, Any] = {id(t): t for t in (*ensemble.stacks.parameters(), *ensemble.stacks.buffers())}
    dropped: dict[int, Any] = {}
    for stack in ensemble.stacks:
        parts = dict(stack.named_children())
        temporal = dict(parts.pop("temporal").named_children())
        gone = [branch for name, branch in temporal.items() if Modality(name) not in branches]
        gone += [part for name, part in parts.items() if not (fuses and name == "fusion")]
        dropped |= {id(module): None for module in gone}
    # A deep copy whose tensors are all there already, and in which what is not wanted became None.
    stacks = copy.deepcopy(ensemble.stacks, tensors | dropped)
    return Ensemble.of_parts(ensemble, stacks, nn.ModuleList(), ensemble.layout)


def first_networks(ensemble: Ensemble, folds: int) -> int:
    """How many networks the first `folds` folds are, where all are of one shape."""
    return ensemble.networks // ensemble.folds * folds


def narrow(state: BranchState, networks: int) -> BranchState:
    """A branch's state without those of the networks behind the first `networks`."""
    return BranchState(
        tuple(
            None if stack is None else TemporalState(tuple(past[:networks].clone() for past in stack.history))
            for stack in state.stacks
        )
    )


def widen(state: BranchState, fresh: BranchState) -> BranchState:
    """A branch's state with more networks behind its own: `fresh` is the state in which those begin."""
    stacks: list[TemporalState | None] = []
    for ours, theirs in zip(state.stacks, fresh.stacks, strict=True):
        if ours is None or theirs is None:
            stacks.append(None)
            continue
        pairs = zip(ours.history, theirs.history, strict=True)
        stacks.append(TemporalState(tuple(torch.cat([own, new[len(own) :]]) for own, new in pairs)))
    return BranchState(tuple(stacks))
