"""A bundle's size: parameters as its networks have them, bytes as the disk has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.bundle.load import load_networks
from models.bundle.size import bytes_on_disk, count_parameters

if TYPE_CHECKING:
    from pathlib import Path


def test_parameters_are_those_of_a_folds_networks_and_of_the_trunks_that_differ(folder: Path) -> None:
    manifest, folds = load_networks(folder)
    size = count_parameters(manifest)
    backbone = folds[0][0].backbone
    assert backbone is not None
    assert size.fold_parameters == sum(p.numel() for network in folds[0] for p in network.parameters())
    assert size.trunk_parameters == sum(p.numel() for p in backbone.groups()["trunk"].parameters())
    assert size.trunks == 2, "two folds share one; of the third's two networks one has its own"


def test_bytes_are_those_of_all_files(folder: Path) -> None:
    before = bytes_on_disk(folder)
    (folder / "README.md").write_bytes(b"card")
    assert bytes_on_disk(folder) == before + 4
    assert before > (folder / "trunk.safetensors").stat().st_size
