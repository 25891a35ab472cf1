"""What follows the embeddings of a few frames: temporal branches, fusion and heads, as two small functions.

`senses` takes sight and sound through their branches, once for each frame; `fusion` takes words through theirs,
fuses, and gives every fold's estimates, once more whenever the words change. On a back-end each is one call in
float32 for a fixed number of frames (on CUDA one graph) in place of some hundred small operations. Any other number
of frames runs eagerly: the ensemble keeps those weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from models.accelerate.build import accelerate
from models.accelerate.export import StepGraph
from models.networks.ensemble import BranchState, Ensemble
from models.networks.tcn import TemporalState
from models.spec import Modality

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.accelerate.backend import Backend, BuildContext, Runner

SENSES: Final = (Modality.VISUAL, Modality.AUDIO)
"""The modalities whose encodings are final as soon as the frame is there."""


MOST_CALLS: Final = 4
"""Up to so many calls of the runners in a row are quicker than one eager pass over the same frames."""


@dataclass(frozen=True, eq=False)
class StepRunners:
    """Both functions for so many frames; `senses` is None for an ensemble of words alone."""

    frames: int
    senses: Runner | None
    fusion: Runner


class Steps:
    """The two functions, by `runners` where the frames fit them, else eagerly.

    Sizes are those of `models.networks.ensemble`, with one sequence (B = 1).
    """

    def __init__(self, ensemble: Ensemble, runners: StepRunners | None = None) -> None:
        self._ensemble = ensemble
        self._runners = runners
        self._senses, self._fusion = senses_graph(ensemble), fusion_graph(ensemble)

    @property
    def eager(self) -> bool:
        """Whether both functions run eagerly, with no runners."""
        return self._runners is None

    def sense(
        self,
        ensemble: Ensemble,
        embeddings: Mapping[Modality, Tensor],
        branches: Mapping[Modality, BranchState],
        available: Mapping[Modality, Tensor],
    ) -> tuple[dict[Modality, BranchState], dict[Modality, Tensor]]:
        """T frames of sight and sound: embeddings (S or 1, 1, T, E), their branches' states and masks (1, T) to
        the next states and encodings (S, 1, T, C).

        `ensemble` is the whole one, or its first folds (`models.networks.subset`), whose sizes then count.
        """
        parts = self._chunks(next((x.shape[2] for x in embeddings.values()), 0))
        if len(parts) > 1:
            found: list[dict[Modality, Tensor]] = []
            for part in parts:
                given = {m: x[:, :, part] for m, x in embeddings.items()}
                masks = {m: x[:, part] for m, x in available.items()}
                branches, encodings = self.sense(ensemble, given, branches, masks)
                found.append(encodings)
            return dict(branches), {m: torch.cat([each[m] for each in found], dim=2) for m in branches}
        graph, runners = self._senses, self._runners
        fits = runners is not None and all(x.shape[2] == runners.frames for x in embeddings.values())
        if runners is None or runners.senses is None or not fits:
            after, encodings = {}, {}
            for m, state in branches.items():
                after[m], encodings[m] = ensemble.run_branch(m, embeddings[m], state, available[m])
            return after, encodings
        networks, working = self._ensemble.networks, ensemble.networks
        pasts = graph.flatten_state(branches)
        if working < networks:
            # Folds that rest are computed with zeros: the call costs the same, whatever is in it.
            pasts = tuple(_pad_networks(past, working, networks) for past in pasts)
        outputs = runners.senses(
            *(available[m] for m in graph.branches),
            *(
                _pad_networks(embeddings[m], working, networks) if m is Modality.VISUAL else embeddings[m]
                for m in graph.branches
            ),
            *pasts,
        )
        if working < networks:
            outputs = tuple(x[:working].clone() for x in outputs)
        count = len(graph.branches)
        return graph.unflatten_state(outputs[count:]), dict(zip(graph.branches, outputs, strict=False))

    def fuse(
        self,
        encodings: Mapping[Modality, Tensor],
        available: Tensor,
        language: BranchState | None,
        words: Tensor | None,
    ) -> tuple[BranchState | None, Tensor]:
        """T frames of all folds: sight's and sound's encodings (S, 1, T, C), masks (1, T, M), the language branch's
        state and word vectors (1, 1, T, E), both None without it, to its next state and estimates (F, 1, T, K).
        """
        parts = self._chunks(available.shape[1])
        if len(parts) > 1:
            found: list[Tensor] = []
            for part in parts:
                own = {m: x[:, :, part] for m, x in encodings.items()}
                given = None if words is None else words[:, :, part]
                language, estimates = self.fuse(own, available[:, part], language, given)
                found.append(estimates)
            return language, torch.cat(found, dim=2)
        graph, ensemble = self._fusion, self._ensemble
        if self._runners is not None and available.shape[1] == self._runners.frames:
            spoken = () if words is None else (words,)
            branches = {} if language is None else {Modality.LANGUAGE: language}
            estimates, *histories = self._runners.fusion(
                available, *spoken, *(encodings[m] for m in graph.others), *graph.flatten_state(branches)
            )
            return graph.unflatten_state(histories).get(Modality.LANGUAGE), estimates
        encodings = dict(encodings)
        if language is not None:
            assert words is not None
            column = ensemble.modalities.index(Modality.LANGUAGE)
            language, encodings[Modality.LANGUAGE] = ensemble.run_branch(
                Modality.LANGUAGE, words, language, available[..., column]
            )
        return language, ensemble.fuse(encodings, available)

    def _chunks(self, frames: int) -> list[slice]:
        """The frames that go together: all, or as many as the runners take."""
        size = frames if self._runners is None else self._runners.frames
        calls = frames // size if size else 0
        if not 1 < calls <= MOST_CALLS or frames % size:
            return [slice(0, frames)]
        return [slice(at, at + size) for at in range(0, frames, size)]


def senses_graph(ensemble: Ensemble) -> StepGraph:
    """Sight's and sound's temporal branches."""
    return StepGraph(ensemble, [m for m in ensemble.modalities if m in SENSES], fuses=False)


def fusion_graph(ensemble: Ensemble) -> StepGraph:
    """The language branch, fusion and heads."""
    return StepGraph(ensemble, [m for m in ensemble.modalities if m not in SENSES], fuses=True)


def build_steps(ensemble: Ensemble, frames: int, backend: Backend, context: BuildContext) -> StepRunners:
    """Both functions on a back-end. Raises Unavailable where it cannot take them."""
    senses, fusion = senses_graph(ensemble).eval(), fusion_graph(ensemble).eval()
    return StepRunners(
        frames,
        accelerate(senses, senses.example(frames), backend, context) if senses.branches else None,
        accelerate(fusion, fusion.example(frames), backend, context),
    )


@dataclass(frozen=True, eq=False)
class StepOutputs:
    """What a short sequence gave: sight's and sound's encodings (S, N, C), estimates (F, N, K), every branch's last
    state.
    """

    encodings: dict[Modality, Tensor]
    estimates: Tensor
    states: dict[Modality, BranchState]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All its tensors, the estimates first."""
        stacks = (stack for state in self.states.values() for stack in state.stacks if stack is not None)
        pasts = (past for stack in stacks for past in stack.history)
        return (self.estimates, *self.encodings.values(), *pasts)


def run_sequence(
    steps: Steps,
    ensemble: Ensemble,
    states: Mapping[Modality, BranchState],
    embeddings: Mapping[Modality, Tensor],
    available: Tensor,
    frames: int,
) -> StepOutputs:
    """A short sequence from every branch's state, `frames` at a time: embeddings (S or 1, N, E), masks (N, M)."""
    branches = dict(states)
    language = branches.pop(Modality.LANGUAGE, None)
    encoded: list[dict[Modality, Tensor]] = []
    estimated: list[Tensor] = []
    for at in range(0, len(available), frames):
        part = slice(at, at + frames)
        masks = available[None, part]
        mask_of = {m: masks[..., i] for i, m in enumerate(ensemble.modalities)}
        given = {m: x[:, None, part] for m, x in embeddings.items()}
        words = given.pop(Modality.LANGUAGE, None)
        branches, encodings = steps.sense(ensemble, given, branches, mask_of)
        language, estimates = steps.fuse(encodings, masks, language, words)
        encoded.append(encodings)
        estimated.append(estimates)
    return StepOutputs(
        {m: torch.cat([e[m] for e in encoded], dim=2)[:, 0] for m in encoded[0]},
        torch.cat(estimated, dim=2)[:, 0],
        branches if language is None else {**branches, Modality.LANGUAGE: language},
    )


def random_states(ensemble: Ensemble, generator: torch.Generator) -> dict[Modality, BranchState]:
    """A state for every branch as if frames had gone before, drawn at random."""

    def drawn(state: TemporalState | None) -> TemporalState | None:
        if state is None:
            return None
        return TemporalState(tuple(torch.randn(past.shape, generator=generator) for past in state.history))

    return {
        m: BranchState(tuple(drawn(stack) for stack in ensemble.initial_state(m, 1).stacks))
        for m in ensemble.modalities
    }


def _pad_networks(x: Tensor, working: int, networks: int) -> Tensor:
    """One row for each network: the first `working` have their own, or share one, and the others' are zeros."""
    x = x.expand(working, *x.shape[1:])
    return x if working == networks else torch.cat([x, x.new_zeros(networks - working, *x.shape[1:])])
