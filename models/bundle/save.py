"""Writing a bundle: whole or not at all, trunks that folds share stored once."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from models.bundle.card import keep_card
from models.bundle.manifest import (
    MANIFEST,
    TEXT,
    BundleFile,
    FeatureRecipe,
    FoldEntry,
    Manifest,
    NetworkEntry,
    PartUse,
    read_manifest,
)
from models.bundle.tensors import save_tensors
from models.errors import UserError
from models.files import file_hash, put_in_place
from models.networks.fold import EmotionNetwork
from models.networks.stacking import Fold, trunk_hash
from models.spec import TARGETS, NetworkSpec, Target

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from models.audio.vggish import Vggish
    from models.spread import SpreadCalibration

PROBE_FRAMES: Final = 4

_TEXT_SUFFIXES: Final = frozenset({".json", ".safetensors", ".txt", ".model"})


def save_bundle(
    folder: Path,
    *,
    name: str,
    folds: Sequence[Fold],
    recipe: FeatureRecipe,
    trained: bool,
    note: str = "",
    validation_ccc: Sequence[Mapping[Target, float] | None] | None = None,
    provenance: Mapping[str, str] | None = None,
    audio_encoder: Vggish | None = None,
    text_encoder_folder: Path | None = None,
    probe: Mapping[str, Tensor] | None = None,
) -> Manifest:
    """Write a bundle, whole or not at all; a bundle that was in `folder` is replaced, its model card kept.

    Trunks that are equal are stored once. The recipe's encoders that are given here become `bundled`.
    `probe` stands for the drawn probe input. Raises ValueError where folds are of different specs (targets
    apart) or a fold's networks of different normalisation, and UserError where the folder cannot be written
    or holds something else than a bundle.
    """
    members = [[fold] if isinstance(fold, EmotionNetwork) else list(fold) for fold in folds]
    spec = _common_spec(members)
    cccs = validation_ccc or [None] * len(members)
    if folder.exists() and any(folder.iterdir()) and not (folder / MANIFEST).is_file():
        raise UserError(f"{folder} holds something that is not a bundle: give another folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
            staged = Path(temporary) / "bundle"
            staged.mkdir()
            trunks: dict[str, int] = {}
            shared: dict[str, Tensor] = {}
            entries = [
                _save_fold(staged, index, networks, trunks, shared, dict(ccc) if ccc is not None else None)
                for index, (networks, ccc) in enumerate(zip(members, cccs, strict=True))
            ]
            if audio_encoder is not None:
                shared |= {f"audio_encoder/{key}": value for key, value in audio_encoder.state_dict().items()}
            text = () if text_encoder_folder is None else _copy_text(text_encoder_folder, staged / TEXT)
            manifest = Manifest(
                name=name,
                trained=trained,
                note=note,
                spec=spec,
                recipe=_with_bundled(recipe, audio_encoder is not None, text_encoder_folder is not None),
                folds=tuple(entries),
                trunk=save_tensors(staged / "trunk.safetensors", shared) if shared else None,
                text=text,
                probe=save_tensors(staged / "probe.safetensors", probe or draw_probe(spec)),
                provenance=dict(provenance or {}),
            )
            (staged / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
            keep_card(folder, staged)
            put_in_place(staged, folder, Path(temporary) / "before")
    except OSError as e:
        raise UserError(
            f"the bundle cannot be written to {folder}: {e.strerror or e}; give a folder that you can write to"
        ) from e
    return manifest


def write_spread(folder: Path, spread: SpreadCalibration) -> Manifest:
    """Put a calibration of the spread into a finished bundle's manifest. Raises as `read_manifest`, and OSError."""
    manifest = read_manifest(folder).model_copy(update={"spread": spread})
    unfinished = folder / f".{MANIFEST}"
    unfinished.write_text(manifest.to_json(), encoding="utf-8")
    unfinished.replace(folder / MANIFEST)
    return manifest


def draw_probe(spec: NetworkSpec, frames: int = PROBE_FRAMES, seed: int = 0) -> dict[str, Tensor]:
    """A probe input as in `Bundle.probe`, of the size of real features, drawn from a seed."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=generator)

    probe = {}
    if spec.visual is not None:
        size = spec.visual.backbone.input_size
        probe["crops"] = uniform(-1, 1, frames, 3, size, size)
    if spec.audio is not None:
        encoder = spec.audio.encoder
        probe["patches"] = uniform(-4, 2, frames, encoder.patch_frames, encoder.bands)
        probe["audio"] = uniform(-1, 1, frames, spec.audio.embedding)
    if spec.language is not None:
        probe["language"] = uniform(-1, 1, frames, spec.language.embedding)
    return probe


def _common_spec(members: Sequence[Sequence[EmotionNetwork]]) -> NetworkSpec:
    if not members or not all(members):
        raise ValueError("a bundle needs at least one fold, and each fold at least one network")
    targets = tuple(t for t in TARGETS if any(t in n.spec.targets for n in members[0]))
    whole = members[0][0].spec.model_copy(update={"targets": targets})
    for network in (n for fold in members for n in fold):
        if network.spec.model_copy(update={"targets": targets}) != whole:
            raise ValueError("the folds of a bundle must be of one spec, their targets apart")
    return whole


def _save_fold(
    staged: Path,
    index: int,
    networks: Sequence[EmotionNetwork],
    trunks: dict[str, int],
    shared: dict[str, Tensor],
    validation_ccc: dict[Target, float] | None,
) -> FoldEntry:
    """Write a fold's own tensors; add a trunk that is new to `trunks` (by content) and `shared` (tensors)."""
    if any(n.normalisation != networks[0].normalisation for n in networks):
        raise ValueError(f"the networks of fold {index} differ in their normalisation")
    own: dict[str, Tensor] = {}
    entries = []
    for network in networks:
        trunk = None
        if network.backbone is not None:
            content = trunk_hash(network.backbone)
            fresh = content not in trunks
            trunk = trunks.setdefault(content, len(trunks))
            if fresh:
                shared |= {
                    f"trunk-{trunk}/{k}": v for k, v in network.state_dict().items() if _in_trunk(network, k)
                }
        prefix = "-".join(network.spec.targets)
        own |= {f"{prefix}/{k}": v for k, v in network.state_dict().items() if not _in_trunk(network, k)}
        entries.append(NetworkEntry(targets=network.spec.targets, trunk=trunk))
    return FoldEntry(
        file=save_tensors(staged / f"fold-{index}.safetensors", own),
        networks=tuple(entries),
        normalisation=networks[0].normalisation,
        validation_ccc=validation_ccc,
    )


def _in_trunk(network: EmotionNetwork, name: str) -> bool:
    inner = name.removeprefix("backbone.")
    return network.backbone is not None and inner != name and network.backbone.group_of(inner) == "trunk"


def text_encoder_files(folder: Path) -> list[Path]:
    """The files of a transformers folder that a bundle takes in, by name."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and path.suffix in _TEXT_SUFFIXES and not path.name.startswith(".")
    )


def _copy_text(source: Path, folder: Path) -> tuple[BundleFile, ...]:
    if not (source / "config.json").is_file():
        raise UserError(
            f"{source} is not a text encoder's folder: it has no config.json; give a saved transformers model"
        )
    folder.mkdir()
    for path in text_encoder_files(source):
        shutil.copyfile(path, folder / path.name)
    return tuple(BundleFile(name=p.name, sha256=file_hash(p)) for p in sorted(folder.iterdir()))


def _with_bundled(recipe: FeatureRecipe, audio: bool, text: bool) -> FeatureRecipe:
    update = {}
    if audio:
        update["audio_encoder"] = PartUse(
            name=_part_name(recipe.audio_encoder, "audio-encoder"), sha256="bundled"
        )
    if text:
        update["text_encoder"] = PartUse(
            name=_part_name(recipe.text_encoder, "text-encoder"), sha256="bundled"
        )
    return recipe.model_copy(update=update)


def _part_name(use: PartUse | None, otherwise: str) -> str:
    return otherwise if use is None else use.name
