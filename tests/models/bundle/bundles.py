"""What tests of bundles share: a small network, and changes to a bundle on disk."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from models.bundle.load import FeatureRecipe, PartUse, load_bundle
from models.bundle.manifest import read_manifest
from models.errors import UserError
from models.files import file_hash
from models.networks.fold import EmotionNetwork
from models.spec import (
    AudioSpec,
    BackboneSpec,
    LanguageSpec,
    NetworkSpec,
    Target,
    TemporalSpec,
    VggishSpec,
    VisualSpec,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SPEC = NetworkSpec(
    visual=VisualSpec(
        backbone=BackboneSpec(
            input_size=16, widths=(4, 4, 6, 6), units=(1, 1, 2, 1), embedding=8, released_units=1
        ),
        temporal=TemporalSpec(widths=(6,), kernel=2),
    ),
    audio=AudioSpec(
        encoder=VggishSpec(widths=(2, 2, 2, 2, 2, 2), hidden=(4, 4), embedding=6),
        temporal=TemporalSpec(widths=(4,), kernel=2),
    ),
    language=LanguageSpec(embedding=12, temporal=TemporalSpec(widths=(4,), kernel=2)),
    d_k=4,
)

RECIPE = FeatureRecipe(
    detector=PartUse(name="haar"),
    recogniser=PartUse(name="vosk-tiny"),
    audio_encoder=PartUse(name="our-vggish"),
    text_encoder=PartUse(name="our-bert"),
)


def network(seed: int, *targets: Target, trunk_of: EmotionNetwork | None = None) -> EmotionNetwork:
    torch.manual_seed(seed)
    made = EmotionNetwork(SPEC.model_copy(update={"targets": targets}) if targets else SPEC)
    if trunk_of is not None:
        assert made.backbone is not None
        assert trunk_of.backbone is not None
        made.backbone.groups()["trunk"].load_state_dict(trunk_of.backbone.groups()["trunk"].state_dict())
    return made.eval()


def assert_same_tensors(one: nn.Module, other: nn.Module) -> None:
    mine, theirs = one.state_dict(), other.state_dict()
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        assert torch.equal(value, theirs[name]), name


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest's JSON."""
    content = json.loads((folder / "bundle.json").read_text())
    change(content)
    (folder / "bundle.json").write_text(json.dumps(content))


def edit_tensors(folder: Path, name: str, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Change a tensor file, and its hash in the manifest, as somebody who knows the format would."""
    tensors = load_file(folder / name)
    change(tensors)
    save_file(tensors, folder / name)
    text = (folder / "bundle.json").read_text()
    old = next(f.sha256 for f in read_manifest(folder).files if f.name == name)
    (folder / "bundle.json").write_text(text.replace(old, file_hash(folder / name)))


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_bundle(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message
