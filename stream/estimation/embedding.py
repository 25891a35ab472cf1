"""From frame features to embeddings, several frames at once and no crop or patch twice; from words to vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.spec import CropSpec, Modality
from models.visual.alignment import network_input

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from models.accelerate.runtime import RuntimeView
    from models.speech.timeline import WordTimeline
    from models.text.embedder import TextEmbedder
    from stream.perception.features import FrameFeatures

Input = NDArray[Any]
"""A crop or a patch."""


@dataclass(frozen=True, eq=False, repr=False)
class Embedded:
    """The newest embedding (S or 1, E) of a branch and what it is of; None for a frame that was masked."""

    what: Input | None
    embedding: Tensor


@dataclass(frozen=True, eq=False, repr=False)
class _EmbeddingPlan:
    """Which inputs of a branch must be embedded, and for each frame its place among them: -1 stands for the newest
    input before these frames, None for a frame that is masked.
    """

    new: list[Input]
    shown: list[int | None]


class FrameEmbedding:
    """Embeddings of the pictures and sounds of frames."""

    def __init__(self, crop: CropSpec) -> None:
        self._crop = crop

    def embed(
        self,
        view: RuntimeView,
        newest: Mapping[Modality, Embedded],
        frames: Sequence[FrameFeatures],
        available: Mapping[Modality, Sequence[bool]],
    ) -> tuple[dict[Modality, Embedded], dict[Modality, Tensor]]:
        """T frames in a row: the newest embeddings after them, and each branch's (S or 1, T, E) for the folds at
        work.

        `available` has the branches to embed, and whether each frame has them: what is masked is zero.
        """
        plans = {
            m: _plan_new(newest.get(m), _branch_inputs(m, frames, there)) for m, there in available.items()
        }
        found = self._embed_new(view, {m: np.stack(plan.new) for m, plan in plans.items() if plan.new})
        after: dict[Modality, Embedded] = {}
        embeddings: dict[Modality, Tensor] = {}
        for modality, plan in plans.items():
            masked = torch.zeros(1, view.ensemble.embedding(modality))
            parts: list[Embedded] = []
            for shown in plan.shown:
                if shown is None:
                    parts.append(Embedded(None, masked))
                elif shown < 0:
                    parts.append(newest[modality])
                else:
                    parts.append(Embedded(plan.new[shown], found[modality][:, shown]))
            rows = max(len(p.embedding) for p in parts)
            embeddings[modality] = torch.stack([p.embedding.expand(rows, -1) for p in parts], dim=1)
            after[modality] = parts[-1]
        return after, embeddings

    def _embed_new(self, view: RuntimeView, new: Mapping[Modality, Input]) -> dict[Modality, Tensor]:
        """All crops and patches that are new: to (S, N, E) and (1, N, E)."""
        crops, patches = new.get(Modality.VISUAL), new.get(Modality.AUDIO)
        visual, audio = view.embed(
            None if crops is None else torch.from_numpy(network_input(crops, self._crop)),
            None if patches is None else torch.from_numpy(patches),
        )
        found = {Modality.VISUAL: visual, Modality.AUDIO: audio}
        return {m: x for m, x in found.items() if x is not None}


class WordEmbedding:
    """The vector of the word that is being said, `width` wide; 0 wide without a language branch."""

    def __init__(self, embedder: TextEmbedder | None, width: int) -> None:
        self._embedder = embedder
        self._nothing_said = np.zeros(width, np.float32)
        self._nothing_said.setflags(write=False)

    def vector_at(self, timeline: WordTimeline, time_s: float) -> NDArray[np.float32]:
        """The word's vector (width,) at a media time; zeros between words, and without an embedder."""
        if self._embedder is None or not len(self._nothing_said):
            return self._nothing_said
        placed = timeline.word_at(time_s)
        if placed is None:
            return self._nothing_said
        vector: NDArray[np.float32] = self._embedder.embed(placed.texts)[placed.index]
        return vector


def _branch_inputs(
    modality: Modality, frames: Sequence[FrameFeatures], available: Sequence[bool]
) -> list[Input | None]:
    """Each frame's crop or patch, None where it is masked."""
    visual = modality is Modality.VISUAL
    return [
        (f.crop if visual else f.patch) if there else None for f, there in zip(frames, available, strict=True)
    ]


def _plan_new(newest: Embedded | None, inputs: Sequence[Input | None]) -> _EmbeddingPlan:
    last = None if newest is None else newest.what
    plan, place = _EmbeddingPlan([], []), -1
    for what in inputs:
        if what is None:
            plan.shown.append(None)
        else:
            if what is not last:
                plan.new.append(what)
                place = len(plan.new) - 1
            plan.shown.append(place)
        last = what
    return plan
