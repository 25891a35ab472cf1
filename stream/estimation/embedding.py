"""From frame features to embeddings: several frames at once, and the same crop or patch never twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.accelerate.runtime import VISUAL, Runtime
from models.networks.ensemble import Ensemble
from models.spec import CropSpec, Modality
from models.visual.alignment import network_input
from stream.perception.features import FrameFeatures

Input = NDArray[Any]
"""A crop or a patch."""


@dataclass(frozen=True, eq=False, repr=False)
class Embedded:
    """The newest embedding (S or 1, E) of a branch and what it is of; None for a frame that was masked."""

    what: Input | None
    embedding: Tensor


@dataclass(frozen=True, eq=False, repr=False)
class _Plan:
    """What of a branch is new, and which of it each frame shows: -1 is the newest of before, None is masked."""

    new: list[Input]
    shown: list[int | None]


class FrameEmbedding:
    """Sight and sound of frames, by whatever serves the bundle.

    While folds rest, eager sight computes only the networks that are at work. An accelerated route computes all of
    them, and those that rest are left out: it may hold the only weights there are, and on the rungs on which folds
    rest only every third picture is looked at.
    """

    def __init__(self, served: Runtime, crop: CropSpec) -> None:
        self._served = served
        self._crop = crop

    def embed(
        self,
        newest: Mapping[Modality, Embedded],
        frames: Sequence[FrameFeatures],
        serving: Mapping[Modality, Sequence[bool]],
        ensemble: Ensemble,
    ) -> tuple[dict[Modality, Embedded], dict[Modality, Tensor]]:
        """T frames in a row: the newest embeddings after them, and each branch's (S or 1, T, E) for the networks of
        `ensemble`, the folds at work.

        `serving` has the branches to embed, and whether each frame has them: what is masked is zero.
        """
        plans = {m: _plan(newest.get(m), _inputs(m, frames, there)) for m, there in serving.items()}
        found = self._run({m: np.stack(plan.new) for m, plan in plans.items() if plan.new}, ensemble)
        after: dict[Modality, Embedded] = {}
        embeddings: dict[Modality, Tensor] = {}
        for modality, plan in plans.items():
            masked = torch.zeros(1, ensemble.embedding(modality))
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

    def _run(self, new: Mapping[Modality, Input], ensemble: Ensemble) -> dict[Modality, Tensor]:
        """Everything new at once: crops to (S, N, E), patches to (1, N, E), side by side where the back-end can."""
        found: dict[Modality, Tensor] = {}
        crops = audio = None
        if Modality.VISUAL in new:
            crops = torch.from_numpy(network_input(new[Modality.VISUAL], self._crop))
        if Modality.AUDIO in new:
            audio = self._served.start_audio(torch.from_numpy(new[Modality.AUDIO]))
        try:
            if crops is not None and self._served.is_eager(VISUAL):
                found[Modality.VISUAL] = ensemble.embed_visual(crops)
            elif crops is not None:
                found[Modality.VISUAL] = self._served.embed_visual(crops)[: ensemble.networks]
        finally:
            if audio is not None:
                found[Modality.AUDIO] = audio()[None]
        return found


def _inputs(
    modality: Modality, frames: Sequence[FrameFeatures], serving: Sequence[bool]
) -> list[Input | None]:
    """What each frame shows a branch, None where it is masked."""
    visual = modality is Modality.VISUAL
    return [
        (f.crop if visual else f.patch) if there else None for f, there in zip(frames, serving, strict=True)
    ]


def _plan(newest: Embedded | None, inputs: Sequence[Input | None]) -> _Plan:
    last = None if newest is None else newest.what
    plan, place = _Plan([], []), -1
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
