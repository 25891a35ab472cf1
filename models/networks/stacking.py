"""Which network of an ensemble is where, and what folds must have in common to be one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.errors import UserError
from models.networks.fold import EmotionNetwork
from models.spec import TARGETS, Modality, NetworkSpec, Target

if TYPE_CHECKING:
    from models.visual.backbone import Backbone

Fold = EmotionNetwork | Sequence[EmotionNetwork]
"""One fold: a network that estimates every target, or several that have the targets between them."""


@dataclass(frozen=True)
class Layout:
    """Where the networks of an ensemble are, all by their numbers.

    `places`: the networks of each stack, in the stack's order. `trunk_of`: each network's trunk, None without a
    visual branch. `sources`: for each fold and target, the network that estimates it and which of its outputs.
    """

    places: tuple[tuple[int, ...], ...]
    trunk_of: tuple[int | None, ...]
    sources: tuple[tuple[tuple[int, int], ...], ...]

    @property
    def folds(self) -> int:
        """F."""
        return len(self.sources)

    @property
    def networks(self) -> int:
        """S."""
        return len(self.trunk_of)

    @property
    def direct(self) -> bool:
        """Whether one stack's outputs are the folds' as they are."""
        targets = len(self.sources[0])
        return len(self.places) == 1 and self.sources == tuple(
            tuple((f, k) for k in range(targets)) for f in range(self.folds)
        )

    def trunks(self, networks: int) -> list[int]:
        """The trunks on which the first `networks` networks stand."""
        return sorted({t for t in self.trunk_of[:networks] if t is not None})

    def first_folds(self, folds: int) -> Layout:
        """That of the first `folds` folds alone, for an ensemble of one stack; trunks are numbered anew."""
        networks = self.networks // self.folds * folds
        used = self.trunks(networks)
        trunk_of = tuple(None if t is None else used.index(t) for t in self.trunk_of[:networks])
        return Layout((tuple(range(networks)),), trunk_of, self.sources[:folds])


def lay_out(folds: Sequence[Sequence[EmotionNetwork]], targets: Sequence[Target]) -> Layout:
    """Networks of one shape belong to one stack, those whose trunks are equal to one trunk."""
    networks = [n for fold in folds for n in fold]
    shapes: dict[str, list[int]] = {}
    trunks: dict[str, int] = {}
    trunk_of: list[int | None] = []
    for i, network in enumerate(networks):
        shapes.setdefault(_shape_of(network.spec), []).append(i)
        if network.backbone is None:
            trunk_of.append(None)
        else:
            trunk_of.append(trunks.setdefault(trunk_hash(network.backbone), len(trunks)))
    numbers = iter(range(len(networks)))
    numbered = [[next(numbers) for _ in fold] for fold in folds]
    sources = tuple(tuple(_find_source(networks, fold, target) for target in targets) for fold in numbered)
    return Layout(tuple(map(tuple, shapes.values())), tuple(trunk_of), sources)


def trunk_hash(backbone: Backbone) -> str:
    """SHA-256 of what a trunk computes: its shape, weights and batch-norm statistics (not their counters)."""
    spec = backbone.spec
    shape = [spec.input_size, *spec.widths, *spec.units, spec.released_units]
    digest = hashlib.sha256(json.dumps(shape).encode())
    for name, tensor in sorted(backbone.state_dict().items()):
        if backbone.group_of(name) == "trunk" and not name.endswith("num_batches_tracked"):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _shape_of(spec: NetworkSpec) -> str:
    return f"{len(spec.targets)} {spec.model_dump_json(exclude={'targets'})}"


def common_targets(folds: Sequence[Sequence[EmotionNetwork]]) -> tuple[Target, ...]:
    """What every fold estimates, in the order of `TARGETS`. Raises UserError where they differ or overlap."""
    if not folds or any(not fold for fold in folds):
        raise UserError(
            "an ensemble needs at least one fold, and each fold at least one network: give trained folds"
        )
    common: set[Target] = {t for n in folds[0] for t in n.spec.targets}
    for i, fold in enumerate(folds):
        targets = [t for n in fold for t in n.spec.targets]
        if len(set(targets)) != len(targets):
            raise UserError(
                f"fold {i} estimates a target twice (its networks give {', '.join(targets)}): "
                "give it one network for each"
            )
        if set(targets) != common:
            raise UserError(
                f"fold {i} estimates {', '.join(targets)}, fold 0 {', '.join(sorted(common))}: "
                "train all folds for the same targets"
            )
    return tuple(t for t in TARGETS if t in common)


def common_spec(specs: Sequence[NetworkSpec], targets: tuple[Target, ...]) -> NetworkSpec:
    """Each branch as the first network that has it describes it. Raises UserError where encoders differ."""
    visual = next((s.visual for s in specs if s.visual is not None), None)
    audio = next((s.audio for s in specs if s.audio is not None), None)
    language = next((s.language for s in specs if s.language is not None), None)
    for i, spec in enumerate(specs):
        for m, first in ((Modality.AUDIO, audio), (Modality.LANGUAGE, language)):
            if first is not None and m in spec.modalities and spec.branch(m).embedding != first.embedding:
                raise UserError(
                    f"network {i} takes {m} embeddings of width {spec.branch(m).embedding}, "
                    f"others of width {first.embedding}: one encoder serves all folds"
                )
        if visual and spec.visual and spec.visual.backbone.input_size != visual.backbone.input_size:
            raise UserError(
                f"network {i} takes crops of {spec.visual.backbone.input_size} pixels, "
                f"others of {visual.backbone.input_size}: one crop serves all folds"
            )
    return specs[0].model_copy(
        update={"visual": visual, "audio": audio, "language": language, "targets": targets}
    )


def _find_source(networks: Sequence[EmotionNetwork], fold: Sequence[int], target: Target) -> tuple[int, int]:
    return next(
        (i, networks[i].spec.targets.index(target)) for i in fold if target in networks[i].spec.targets
    )
