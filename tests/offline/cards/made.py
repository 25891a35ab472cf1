"""A bundle that was never trained, and judgements of it made of nothing, as `offline-judge --json` writes them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from offline.judging.document import judgement_document
from offline.judging.live_path import ItemEstimate, JudgeOptions
from offline.judging.material import Kind, Material
from offline.judging.scoring import score_material

if TYPE_CHECKING:
    from pathlib import Path

    from models.bundle.load import Bundle
    from offline.judging.scoring import Judgement


def judged(
    kind: Kind = "faces",
    items: int = 40,
    seed: int = 0,
    error: float = 0.1,
    *,
    by: str = "votes",
    available: int | None = None,
    alike: bool = False,
    found: bool = True,
) -> Judgement:
    """A judgement of items whose estimates are their labels, of what is called `by`, but for `error`.

    In the last one nothing is found, and in none unless `found`; all spreads are one where they are `alike`.
    """
    random = np.random.default_rng(seed)
    labels = random.uniform(-0.8, 0.8, (items, 2))
    estimates = []
    for row, label in enumerate(labels):
        width = np.full(2, 0.05 if alike else 0.05 + 0.1 * row / items)
        value = label + error * random.choice([-1.0, 1.0], 2)
        estimates.append(ItemEstimate(30, found and row < items - 1, value, width, 0.5 * value, 2 * width))
    material = Material(
        kind=kind,
        source=f"/home/me/data/{kind}.npz",
        names=tuple(f"item-{row}" for row in range(items)),
        items=tuple(range(items)),
        labels={} if kind == "talking" else {by: labels},
        available=available or items,
        categories=tuple(("anger", "happiness")[row % 2] for row in range(items)) if kind == "faces" else (),
        notes=("speakers 09 alone",) if kind == "voices" else ("read from /home/me/data with care",),
    )
    return score_material(material, estimates)


def write_judgement(
    path: Path, bundle: Bundle, *judgements: Judgement, detector: str | None = "haar"
) -> Path:
    """A document of `offline-judge --json`."""
    command = f"offline-judge people --faces /home/me/data/faces.npz --json={path}"
    document = judgement_document(bundle, JudgeOptions("people"), detector, judgements, command)
    path.write_text(json.dumps(document))
    return path
