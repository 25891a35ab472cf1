"""Whether a fast path agrees with eager on a bundle's own probe input: on features, and on valence and arousal.

The probe's frames are taken as one short sequence through all folds. What a part computes is put in place of
eager's while every other embedding stays eager's, and the folds' estimates are compared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from models.spec import Modality

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from models.accelerate.backend import Precision
    from models.bundle.load import Bundle
    from models.networks.ensemble import Ensemble


@dataclass(frozen=True)
class Limits:
    """How far a fast path may be from eager.

    `features`: the largest difference of one embedding, relative to its length. `estimates`: the largest
    difference of one fold's valence or arousal at one frame, in their unit ([-1, 1] is the whole range), and
    relative to the largest estimate where that is beyond 1.
    """

    features: float
    estimates: float


LIMITS: Final[Mapping[Precision, Limits]] = {
    "float32": Limits(features=0.001, estimates=0.001),
    "float16": Limits(features=0.02, estimates=0.01),
    "bfloat16": Limits(features=0.05, estimates=0.03),
    "int8": Limits(features=0.25, estimates=0.05),
}


@dataclass(frozen=True)
class Agreement:
    """What was found, beside what is allowed. NaN or infinite values differ by infinity."""

    features: float
    estimates: float
    limits: Limits

    @property
    def holds(self) -> bool:
        """Whether the fast path may serve."""
        return self.features <= self.limits.features and self.estimates <= self.limits.estimates

    def __str__(self) -> str:
        return (
            f"features differ by {self.features:.2g} (allowed {self.limits.features:g}), "
            f"valence-arousal by {self.estimates:.2g} (allowed {self.limits.estimates:g})"
        )


@dataclass(frozen=True, eq=False)
class Reference:
    """What eager makes of the probe: embeddings (S or 1, N, E) by modality, and estimates (F, N, K)."""

    embeddings: Mapping[Modality, Tensor]
    estimates: Tensor


@torch.no_grad()
def estimate(ensemble: Ensemble, embeddings: Mapping[Modality, Tensor]) -> Tensor:
    """Embeddings (S or 1, N, E) of N frames in a row to every fold's estimates (F, N, K)."""
    return ensemble.run({m: x.unsqueeze(1) for m, x in embeddings.items()})[1][:, 0]


@torch.no_grad()
def make_reference(bundle: Bundle) -> Reference:
    """Eager on the probe: sight from its crops, sound from its patches where the encoder is there."""
    probe = bundle.probe
    embeddings: dict[Modality, Tensor] = {}
    for modality in bundle.ensemble.modalities:
        if modality is Modality.VISUAL:
            embeddings[modality] = bundle.ensemble.embed_visual(probe["crops"])
        elif modality is Modality.AUDIO and bundle.audio_encoder is not None:
            embeddings[modality] = bundle.audio_encoder(probe["patches"]).unsqueeze(0)
        else:
            embeddings[modality] = probe[modality.value].unsqueeze(0)
    return Reference(embeddings, estimate(bundle.ensemble, embeddings))


def compare(
    ensemble: Ensemble, reference: Reference, found: Mapping[Modality, Tensor], precision: Precision
) -> Agreement:
    """Put the embeddings `found` by a fast path in place of eager's, and compare."""
    features = max(_difference_by_length(found[m], reference.embeddings[m]) for m in found)
    estimates = estimate(ensemble, {**reference.embeddings, **found})
    return Agreement(features, _difference_by_largest(estimates, reference.estimates), LIMITS[precision])


def compare_tensors(found: Sequence[Tensor], expected: Sequence[Tensor], precision: Precision) -> Agreement:
    """Estimates, which come first, and all that comes with them, each relative to its largest value where that is
    beyond 1.
    """
    first, *rest = (
        _difference_by_largest(ours, theirs) for ours, theirs in zip(found, expected, strict=True)
    )
    return Agreement(max(rest, default=0.0), first, LIMITS[precision])


def _difference_by_length(found: Tensor, expected: Tensor) -> float:
    if found.shape != expected.shape:
        return math.inf
    lengths = expected.norm(dim=-1)
    differences = (found - expected).norm(dim=-1)
    return (
        _largest_or_infinite(differences / lengths.clamp_min(1e-12))
        if bool(lengths.any())
        else _largest_or_infinite(differences)
    )


def _difference_by_largest(found: Tensor, expected: Tensor) -> float:
    if found.shape != expected.shape:
        return math.inf
    return _largest_or_infinite((found - expected).abs()) / max(1.0, float(expected.abs().max()))


def _largest_or_infinite(values: Tensor) -> float:
    return float(values.max()) if bool(torch.isfinite(values).all()) else math.inf
