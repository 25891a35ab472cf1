"""How large a bundle is: its parameters, counted on networks without memory, and its bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from models.networks.fold import EmotionNetwork

if TYPE_CHECKING:
    from pathlib import Path

    from models.bundle.manifest import Manifest


@dataclass(frozen=True)
class BundleSize:
    """Parameters of one fold's networks, of the trunk that each of them stands on (among the former), and how many
    different trunks there are; 0 trunks where no network has one.
    """

    fold_parameters: int
    trunk_parameters: int
    trunks: int


def count_parameters(manifest: Manifest) -> BundleSize:
    """The parameters of a bundle's networks, encoders of sound and text apart."""
    with torch.device("meta"):
        networks = [
            EmotionNetwork(manifest.spec.model_copy(update={"targets": entry.targets}))
            for entry in manifest.folds[0].networks
        ]
    backbone = networks[0].backbone
    return BundleSize(
        fold_parameters=sum(p.numel() for network in networks for p in network.parameters()),
        trunk_parameters=0
        if backbone is None
        else sum(p.numel() for p in backbone.groups()["trunk"].parameters()),
        trunks=len({entry.trunk for fold in manifest.folds for entry in fold.networks} - {None}),
    )


def bytes_on_disk(folder: Path) -> int:
    """The bytes of all files in a bundle's folder. Raises OSError where one cannot be looked at."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
