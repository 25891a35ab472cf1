"""What all folds of a run stand on: a pretrained face backbone, and for slim presets an audio encoder of its own.

The report's backbone was pretrained on faces of the world and its VGGish on sounds of the world (section 2); a slim
preset's are pretrained on performed people by `offline-pretrain`. Either way the trunk and the audio encoder are
frozen, so six folds share them. In a run they are one file, `trunk.safetensors`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from models.audio.vggish import Vggish
from models.bundle.manifest import FeatureRecipe
from models.bundle.tensors import fill
from models.errors import UserError
from models.files import file_hash
from models.visual.backbone import Backbone, load_face_checkpoint
from offline.data.store import recipe_differences
from offline.tensors import load_tensors, save_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from models.spec import NetworkSpec
    from offline.files import Json

FORMAT_VERSION: Final = 1
_WAY_OUT: Final = "give a trunk made by offline-pretrain, or make it again"
_KIND: Final = "affectstream foundation"


@dataclass(frozen=True, eq=False)
class PretrainedEncoders:
    """Weights that folds begin with, in eval mode and on the CPU; None where there are none.

    `recipe` is the feature recipe of the store it was pretrained on, None where that is not known; `provenance`
    says where it comes from.
    """

    backbone: Backbone | None = None
    audio_encoder: Vggish | None = None
    recipe: FeatureRecipe | None = None
    provenance: Json = field(default_factory=dict)


def save_pretrained(path: Path, pretrained: PretrainedEncoders) -> str:
    """Write pretrained encoders, whole or not at all, and return the file's SHA-256."""
    tensors: dict[str, Tensor] = {}
    state: Json = {
        "kind": _KIND,
        "format_version": FORMAT_VERSION,
        "recipe": None if pretrained.recipe is None else pretrained.recipe.model_dump(mode="json"),
        "provenance": pretrained.provenance,
    }
    for name, module in (("backbone", pretrained.backbone), ("audio_encoder", pretrained.audio_encoder)):
        if module is not None:
            state[name] = module.spec.model_dump(mode="json")
            tensors |= {f"{name}/{key}": value for key, value in module.state_dict().items()}
    save_tensors(path, tensors, state)
    return file_hash(path)


def load_pretrained(path: Path, spec: NetworkSpec, seed: int = 0) -> PretrainedEncoders:
    """Read pretrained encoders for `spec`: ours, or a face-recognition checkpoint, which fills the backbone alone.

    What such a checkpoint lacks (an output layer of another map size) starts random under `seed`. Raises UserError
    where the file is damaged, or was made for another preset.
    """
    header = _header(path)
    if header is None:
        return _from_face_checkpoint(path, spec, seed)
    if header.get("kind") != _KIND:
        raise UserError(f"{path} is a checkpoint of something else: give a trunk made by offline-pretrain")
    if header.get("format_version") != FORMAT_VERSION:
        raise UserError(f"{path} has format version {header.get('format_version')}: update affectstream")
    tensors, state = load_tensors(path)
    backbone: Backbone | None = None
    encoder: Vggish | None = None
    with torch.random.fork_rng(devices=[]):
        if spec.visual is not None and "backbone" in state:
            backbone = Backbone(spec.visual.backbone)
            _fill(backbone, "backbone", tensors, state, path)
        if spec.audio is not None and "audio_encoder" in state:
            encoder = Vggish(spec.audio.encoder)
            _fill(encoder, "audio_encoder", tensors, state, path)
    try:
        recipe = None if state["recipe"] is None else FeatureRecipe.model_validate(state["recipe"])
        return PretrainedEncoders(backbone, encoder, recipe, dict(state["provenance"]))
    except (KeyError, TypeError, ValueError) as e:
        raise UserError(
            f"{path} is damaged: its header is not that of pretrained encoders", way_out=_WAY_OUT
        ) from e


def random_pretrained(spec: NetworkSpec, seed: int) -> PretrainedEncoders:
    """An untrained backbone, the same for every fold."""
    backbone = None if spec.visual is None else _fresh_backbone(spec, seed)
    return PretrainedEncoders(backbone, provenance={"source": f"random weights, seed {seed}"})


def check_recipe(pretrained: PretrainedEncoders, store: FeatureRecipe, what: str) -> None:
    """Refuse a store whose pictures or sounds were made in another way than the encoders'. Raises UserError.

    Only what the backbone and the audio encoder have grown used to counts: crops, log-mel, and who found the faces.
    """
    if pretrained.recipe is None:
        return
    known = pretrained.recipe
    wanted = FeatureRecipe(
        frame_rate=store.frame_rate, crop=known.crop, logmel=known.logmel, detector=known.detector
    )
    differences = recipe_differences(store, wanted)
    if differences:
        raise UserError(
            f"{what} was pretrained on other features than the store's: {'; '.join(differences)}",
            way_out="preprocess both in the same way",
        )


def _header(path: Path) -> Json | None:
    """The JSON in one of our files' header; None for a file of another kind."""
    if not path.is_file():
        raise UserError(f"{path} does not exist or is not a file: give a trunk made by offline-pretrain")
    if path.suffix != ".safetensors":
        return None
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            metadata = json.loads(file.read(min(length, 100_000_000))).get("__metadata__") or {}
        state = json.loads(metadata["state"]) if "state" in metadata else None
    except (OSError, ValueError, AttributeError, RecursionError) as e:
        raise UserError(f"{path} is damaged or is no safetensors file", way_out=_WAY_OUT) from e
    return state if isinstance(state, dict) else None


def _fill(
    module: Backbone | Vggish, name: str, tensors: Mapping[str, Tensor], state: Json, path: Path
) -> None:
    if module.spec.model_dump(mode="json") != state[name]:
        raise UserError(
            f"{path} has another {name.replace('_', ' ')} than this preset's: make one for it with offline-pretrain"
        )
    own = {k.removeprefix(f"{name}/"): v for k, v in tensors.items() if k.startswith(f"{name}/")}
    fill(module, own, str(path))
    module.eval().requires_grad_(False)


def _from_face_checkpoint(path: Path, spec: NetworkSpec, seed: int) -> PretrainedEncoders:
    if spec.visual is None:
        raise UserError(
            f"{path} is a face backbone's checkpoint, but the network has no visual branch",
            way_out="leave --trunk out, or add visual to --modalities",
        )
    backbone = _fresh_backbone(spec, seed)
    report = load_face_checkpoint(backbone, path)
    return PretrainedEncoders(
        backbone,
        provenance={
            "source": f"face checkpoint {path.name}",
            "sha256": file_hash(path),
            "taken": len(report.taken),
            "missing": list(report.missing),
        },
    )


def _fresh_backbone(spec: NetworkSpec, seed: int) -> Backbone:
    assert spec.visual is not None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = Backbone(spec.visual.backbone)
    return backbone.eval().requires_grad_(False)
