"""What follows the embeddings of a few frames: temporal branches, fusion and heads, as two small functions.

`senses` takes sight and sound through their branches, once for each frame; `fusion` takes words through theirs,
fuses, and gives every fold's estimates, once more whenever the words change. On a back-end each is one call in
float32 for a fixed number of frames (on CUDA one graph) in place of some hundred small operations. Any other number
of frames, and folds at work while others rest, run eagerly: the ensemble keeps those weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from models.accelerate.graphs import StepGraph
from models.accelerate.route import Route, Runner, Workshop
from models.accelerate.run import accelerate
from models.ensemble import BranchState, Ensemble
from models.spec import Modality

SENSES: Final = (Modality.VISUAL, Modality.AUDIO)
"""The modalities whose encodings are final as soon as the frame is there."""


@dataclass(frozen=True, eq=False)
class StepRunners:
    """Both functions for so many frames; `senses` is None for an ensemble of words alone."""

    frames: int
    senses: Runner | None
    fusion: Runner


class Steps:
    """The two functions, by `runners` where the call fits them, else eagerly.

    Sizes are those of `models.ensemble`, with one sequence (B = 1).
    """

    def __init__(self, ensemble: Ensemble, runners: StepRunners | None = None) -> None:
        self._ensemble = ensemble
        self._runners = runners
        self._senses, self._fusion = senses_graph(ensemble), fusion_graph(ensemble)
        self._columns = [m in self._senses.branches for m in ensemble.modalities]

    @property
    def eager(self) -> bool:
        """Whether nothing else computes them."""
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

        `ensemble` is the whole one, or its leading folds (`models.leading`), whose sizes then count.
        """
        runners = self._fitting(ensemble, embeddings)
        if runners is None or runners.senses is None:
            after, encodings = {}, {}
            for m, state in branches.items():
                after[m], encodings[m] = ensemble.run_branch(m, embeddings[m], state, available[m])
            return after, encodings
        graph = self._senses
        outputs = runners.senses(
            *(available[m] for m in graph.branches),
            *(_rows(embeddings[m], ensemble, m) for m in graph.branches),
            *graph.flatten_state(branches),
        )
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
        graph, ensemble = self._fusion, self._ensemble
        if self._runners is not None and available.shape[1] == self._runners.frames:
            given = () if words is None else (words,)
            branches = {} if language is None else {Modality.LANGUAGE: language}
            estimates, *histories = self._runners.fusion(
                available, *given, *(encodings[m] for m in graph.others), *graph.flatten_state(branches)
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

    def _fitting(self, ensemble: Ensemble, embeddings: Mapping[Modality, Tensor]) -> StepRunners | None:
        runners = self._runners
        if runners is None or ensemble is not self._ensemble:
            return None
        fits = all(x.shape[2] == runners.frames for x in embeddings.values())
        return runners if fits else None


def senses_graph(ensemble: Ensemble) -> StepGraph:
    """Sight's and sound's temporal branches."""
    return StepGraph(ensemble, [m for m in ensemble.modalities if m in SENSES], fuses=False)


def fusion_graph(ensemble: Ensemble) -> StepGraph:
    """The language branch, fusion and heads."""
    return StepGraph(ensemble, [m for m in ensemble.modalities if m not in SENSES])


def build_steps(ensemble: Ensemble, frames: int, route: Route, workshop: Workshop) -> StepRunners:
    """Both functions on a route. Raises Unavailable where it cannot take them."""
    senses, fusion = senses_graph(ensemble).eval(), fusion_graph(ensemble).eval()
    return StepRunners(
        frames,
        accelerate(senses, senses.example(frames), route, workshop) if senses.branches else None,
        accelerate(fusion, fusion.example(frames), route, workshop),
    )


def run_through(
    steps: Steps, ensemble: Ensemble, embeddings: Mapping[Modality, Tensor], available: Tensor, frames: int
) -> tuple[dict[Modality, Tensor], Tensor]:
    """A short sequence, `frames` at a time: embeddings (S or 1, N, E) and masks (N, M) to the encodings of sight and
    sound (S, N, C) and estimates (F, N, K).
    """
    branches = {m: ensemble.initial_state(m, 1) for m in ensemble.modalities}
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
    whole = {m: torch.cat([e[m] for e in encoded], dim=2)[:, 0] for m in encoded[0]}
    return whole, torch.cat(estimated, dim=2)[:, 0]


def _rows(embedding: Tensor, ensemble: Ensemble, modality: Modality) -> Tensor:
    """As many rows as the function was built for: sight's differ by network, sound's do not."""
    rows = ensemble.networks if modality is Modality.VISUAL else 1
    return embedding.expand(rows, -1, -1, -1)
