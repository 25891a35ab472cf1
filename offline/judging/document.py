"""Judgements as one JSON document: every score, and what it takes to get them again."""

from __future__ import annotations

import platform
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from models.spec import TARGETS
from offline.people.emotions import EMOTIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.bundle.load import Bundle
    from offline.files import Json
    from offline.judging.live_path import ItemEstimate, JudgeOptions
    from offline.judging.material import Material
    from offline.judging.scoring import Judgement

_PACKAGES: Final = ("affectstream", "torch", "numpy", "opencv-python-headless", "av")


def judgement_document(
    bundle: Bundle, options: JudgeOptions, detector: str | None, judgements: Sequence[Judgement], command: str
) -> Json:
    """The document. `detector` is the one that was used for faces, None where none was; `command` what was typed."""
    manifest = bundle.manifest
    return {
        "command": command,
        "bundle": {
            "name": manifest.name,
            "content_hash": manifest.content_hash,
            "folds": bundle.ensemble.folds,
            "trained": manifest.trained,
            "missing_parts": list(bundle.missing),
        },
        "options": {**asdict(options), "detector_used": detector},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
        "emotions": {name: [place.valence, place.arousal] for name, place in EMOTIONS.items()},
        "judgements": [_judgement_json(judgement) for judgement in judgements],
    }


def _judgement_json(judgement: Judgement) -> Json:
    material = judgement.material
    content: Json = {
        "kind": material.kind,
        "source": str(material.source),
        "items": len(judgement.estimates),
        "available": material.available,
        "present": judgement.present,
        "frames": sum(estimate.frames for estimate in judgement.estimates),
        "notes": list(material.notes),
        "scores": [asdict(score) for score in judgement.scores],
        "categories": [asdict(category) for category in judgement.categories],
        "each": [
            {
                "name": material.names[row],
                **_estimate_json(estimate),
                "labels": _labels_json(material, row),
            }
            for row, estimate in enumerate(judgement.estimates)
        ],
    }
    if material.kind == "talking":
        content["largest_deviation"] = dict(
            zip(("name", "target", "value"), judgement.widest_deviation, strict=True)
        )
    return content


def _estimate_json(estimate: ItemEstimate) -> Json:
    pairs = ("centered", "centered_spread", "folds_mean", "folds_spread")
    return {
        "present": estimate.present,
        "frames": estimate.frames,
        **{name: [round(float(value), 6) for value in getattr(estimate, name)] for name in pairs},
    }


def _labels_json(material: Material, row: int) -> Json:
    """Valence and arousal by what they come from; an item that lacks them is left out."""
    known = {by: labels[row] for by, labels in material.labels.items() if labels[row, 0] == labels[row, 0]}
    return {by: [round(float(pair[k]), 6) for k in range(len(TARGETS))] for by, pair in known.items()}
