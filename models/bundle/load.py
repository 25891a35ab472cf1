"""A set of folds on disk: `bundle.json`, safetensors, and what is bundled of the pretrained parts.

    bundle.json           the manifest, with every other file's SHA-256
    trunk.safetensors     `trunk-N/*`: the trunks that folds share; `audio_encoder/*`: a bundled VGGish
    fold-K.safetensors    `valence-arousal/*`, or `valence/*` and `arousal/*`: what is the fold's own
    text/                 a bundled text encoder, as a transformers folder
    README.md             the model card, where there is one (`models/bundle/card.py`)
    probe.safetensors     a small input, on which a fast path must agree with eager before it serves

Loading executes nothing, checks every hash, and reports whatever is wrong in one line.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import torch
from torch import Tensor

from models.audio.vggish import Vggish, load_vggish_checkpoint
from models.bundle.manifest import (
    COPY_AGAIN,
    TEXT,
    FeatureRecipe,
    FoldEntry,
    Manifest,
    PartUse,
    read_manifest,
)
from models.bundle.save import draw_probe, save_bundle
from models.bundle.shipped import resolve_bundle
from models.bundle.tensors import fill, read_checked, read_tensors
from models.errors import SetupError, UserError
from models.networks.ensemble import Ensemble
from models.networks.fold import EmotionNetwork
from models.parts.registry import PARTS, InstalledPart, find_part, install_command, require_part

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = [
    "Bundle",
    "FeatureRecipe",
    "Manifest",
    "PartUse",
    "draw_probe",
    "load_bundle",
    "load_networks",
    "resolve_bundle",
    "save_bundle",
]

_EMBEDDED: Final = frozenset({"haar", "haar-patient"})
"""Parts inside a library that the package depends on: there is nothing to install and nothing to hash."""

_CHOSEN_BY_THE_RUN: Final = frozenset({"detector", "recogniser"})
"""Parts that each run chooses: a folder that the user names serves as well as a registered part."""

MissingParts = Literal["refuse", "tolerate"]


@dataclass(frozen=True, eq=False)
class Bundle:
    """A loaded bundle.

    `audio_encoder` and `text_encoder_folder` are None where the spec has no such branch, or where their
    part is not installed; `missing` names the parts that the recipe wants and that are not installed.
    `parts` are the installed ones by their role. `probe` is the probe input: `crops` (N, 3, S, S),
    `patches` (N, 96, 64), and the embeddings `audio` and `language` (N, E), each where the spec has the
    branch.
    """

    manifest: Manifest
    folder: Path
    ensemble: Ensemble
    audio_encoder: Vggish | None
    text_encoder_folder: Path | None
    parts: Mapping[str, InstalledPart]
    missing: tuple[str, ...]
    probe: Mapping[str, Tensor]

    @property
    def content_hash(self) -> str:
        """SHA-256 of everything in the bundle."""
        return self.manifest.content_hash


def load_bundle(name_or_path: str | Path, *, missing_parts: MissingParts = "refuse") -> Bundle:
    """Load a bundle, ready to serve.

    Raises UserError where the bundle is damaged, of a newer format, or does not fit its own spec; and where
    a part it asks for is not installed, unless `missing_parts` is `tolerate`. A part that is installed but
    is not the one the bundle was made with is refused either way.
    """
    folder = resolve_bundle(name_or_path)
    manifest = read_manifest(folder)
    shared = _read_shared(manifest, folder)
    folds = [_load_fold(manifest, folder, entry, shared) for entry in manifest.folds]
    parts, missing = _find_parts(manifest, missing_parts)
    return Bundle(
        manifest=manifest,
        folder=folder,
        ensemble=Ensemble.from_folds(folds),
        audio_encoder=_audio_encoder(manifest, folder, shared, parts),
        text_encoder_folder=_text_encoder(manifest, folder, parts),
        parts=parts,
        missing=missing,
        probe=_load_probe(manifest, folder),
    )


def load_networks(name_or_path: str | Path) -> tuple[Manifest, list[list[EmotionNetwork]]]:
    """The networks of each fold one by one, in eval mode, for training on and for inspection.

    Raises UserError as `load_bundle` does, parts apart.
    """
    folder = resolve_bundle(name_or_path)
    manifest = read_manifest(folder)
    shared = _read_shared(manifest, folder)
    return manifest, [_load_fold(manifest, folder, entry, shared) for entry in manifest.folds]


def _read_shared(manifest: Manifest, folder: Path) -> dict[str, Tensor]:
    return {} if manifest.trunk is None else read_tensors(folder, manifest.trunk)


def _load_fold(
    manifest: Manifest, folder: Path, entry: FoldEntry, shared: Mapping[str, Tensor]
) -> list[EmotionNetwork]:
    what = f"{folder / entry.file.name}"
    own = read_tensors(folder, entry.file)
    fold = []
    for part in entry.networks:
        with torch.random.fork_rng(devices=[]):
            network = EmotionNetwork(manifest.spec.model_copy(update={"targets": part.targets}))
        prefix = f"{'-'.join(part.targets)}/"
        fill(network, _without_prefix(f"trunk-{part.trunk}/", shared) | _without_prefix(prefix, own), what)
        own = {name: value for name, value in own.items() if not name.startswith(prefix)}
        for modality, (mean, std) in entry.normalisation.items():
            network.set_normalisation(modality, mean, std)
        fold.append(network.eval())
    if own:
        raise UserError(f"{what} does not match the bundle's spec: unknown tensor {min(own)}; {COPY_AGAIN}")
    return fold


def _without_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _find_parts(
    manifest: Manifest, missing_parts: MissingParts
) -> tuple[dict[str, InstalledPart], tuple[str, ...]]:
    found: dict[str, InstalledPart] = {}
    missing: list[str] = []
    any_detector = manifest.recipe.crop.framing == "box"  # every detector's faces are framed alike
    for role, use in manifest.recipe.parts.items():
        if use.bundled or use.name in _EMBEDDED or (role in _CHOSEN_BY_THE_RUN and use.name not in PARTS):
            continue
        if role == "detector" and any_detector:
            continue
        if use.name not in PARTS:
            raise UserError(
                f"the bundle '{manifest.name}' asks for an unknown part as its {role}: '{use.name}'; "
                "update affectstream"
            )
        part = find_part(use.name) if missing_parts == "tolerate" else require_part(use.name)
        if part is None:
            missing.append(use.name)
        elif use.sha256 not in (None, part.sha256):
            raise SetupError(
                f"the bundle '{manifest.name}' was made with another {use.name} than the one in {part.path}: "
                f"its hash is {part.sha256[:12]}, not {str(use.sha256)[:12]}",
                way_out="install that one, or name another bundle",
            )
        else:
            found[role] = part
    return found, tuple(missing)


def _audio_encoder(
    manifest: Manifest, folder: Path, shared: Mapping[str, Tensor], parts: Mapping[str, InstalledPart]
) -> Vggish | None:
    use = manifest.recipe.audio_encoder
    if manifest.spec.audio is None or use is None or not (use.bundled or "audio_encoder" in parts):
        return None
    with torch.random.fork_rng(devices=[]):
        encoder = Vggish(manifest.spec.audio.encoder)
    if use.bundled:
        assert manifest.trunk is not None
        fill(encoder, _without_prefix("audio_encoder/", shared), f"{folder / manifest.trunk.name}")
    else:
        _fill_from_part(encoder, parts["audio_encoder"])
    encoder.eval().requires_grad_(False)
    return encoder


def _fill_from_part(encoder: Vggish, part: InstalledPart) -> None:
    """Weights from an installed part. Raises SetupError where its file is not of that network."""
    way_out = f"install it again with `{install_command(part.part.name)}`"
    try:
        report = load_vggish_checkpoint(encoder, part.path)
    except UserError as error:
        raise SetupError(error.problem, way_out=way_out) from error
    if report.missing:
        raise SetupError(
            f"{part.path} does not fill the audio encoder: {report.missing[0]} is missing", way_out=way_out
        )


def _text_encoder(manifest: Manifest, folder: Path, parts: Mapping[str, InstalledPart]) -> Path | None:
    """The text encoder's folder, checked for its width, and file by file where it is bundled."""
    use = manifest.recipe.text_encoder
    if manifest.spec.language is None or use is None or not (use.bundled or "text_encoder" in parts):
        return None
    if use.bundled:
        found = folder / TEXT
        listed = {file.name for file in manifest.text}
        present = {p.relative_to(found).as_posix() for p in found.rglob("*") if not p.is_dir()}
        if present - listed:
            raise UserError(f"{found / min(present - listed)} is not in the bundle's manifest: remove it")
        for file in manifest.text:
            read_checked(found, file)
    else:
        found = parts["text_encoder"].path
    width = _text_width(found)
    if width != manifest.spec.language.embedding:
        raise SetupError(
            f"the text encoder in {found} is {width} wide, but the bundle '{manifest.name}' wants "
            f"{manifest.spec.language.embedding}",
            way_out="install the one that it was trained with",
        )
    return found


def _text_width(folder: Path) -> int:
    try:
        return int(json.loads((folder / "config.json").read_text(encoding="utf-8"))["hidden_size"])
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise UserError(
            f"{folder} is not a text encoder's folder: no config.json that says its width; save it again"
        ) from e


def _load_probe(manifest: Manifest, folder: Path) -> dict[str, Tensor]:
    probe = read_tensors(folder, manifest.probe)
    expected = draw_probe(manifest.spec)
    for name in sorted(expected.keys() | probe.keys()):
        fits = name in expected and name in probe and probe[name].shape[1:] == expected[name].shape[1:]
        if not fits or not len(probe[name]):
            raise UserError(
                f"{folder / manifest.probe.name} does not match the bundle's spec: see {name}; {COPY_AGAIN}"
            )
    return probe
