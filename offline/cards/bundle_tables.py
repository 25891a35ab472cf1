"""A bundle's manifest, and what trials are composed by, as tables of a card."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from models.bundle.manifest import TEXT
from models.spec import TARGETS
from offline.cards.markdown import decimals, table, without_folders
from offline.composer.episodes import (
    FACE_MODES,
    LONGEST_S,
    SHORTEST_S,
    TALKING_SHARE,
    TURNING_SHARE,
    VOICE_MODES,
    WORDS_MODES,
)
from offline.composer.perceived import MEMORY_S, RISE_S, WEIGHTS
from offline.files import read_json
from offline.people.emotions import EMOTIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from models.bundle.manifest import Manifest
    from models.bundle.size import BundleSize
    from offline.cards.markdown import Row

SPREADS: Final = (0.0, 0.05, 0.1, 0.2, 0.3)
"""Spreads between folds at which the error to expect is shown."""

NOT_CALIBRATED: Final = (
    "This bundle's spread was not calibrated: what is published is the standard deviation between the folds."
)
TEXT_PROVENANCE: Final = "provenance.json"
"""In a bundled text encoder's folder: how it was pretrained, where it says so."""

_LONGEST: Final = 200


def facts_table(manifest: Manifest, size: BundleSize, megabytes: float) -> str:
    """What the bundle is: name, content, network, size."""
    spec, recipe = manifest.spec, manifest.recipe
    frames = max(spec.branch(m).temporal.receptive_field for m in spec.modalities)
    trunk = ""
    if size.trunks:
        trunk = f", of which {size.trunk_parameters / 1e6:.2f} million are a trunk that folds share"
    rows = [
        ("name", manifest.name),
        ("content", f"sha256 {manifest.content_hash}"),
        ("trained", "yes" if manifest.trained else "no"),
        ("preset", manifest.preset),
        ("estimates", " and ".join(spec.targets)),
        ("folds", str(len(manifest.folds))),
        ("parameters of a fold", f"{size.fold_parameters / 1e6:.2f} million{trunk}"),
        ("on disk", f"{megabytes:.1f} MB"),
        (
            "remembers",
            f"{frames} frames, {frames / recipe.frame_rate:.1f} s at {recipe.frame_rate:g} a second",
        ),
    ]
    for modality in spec.modalities:
        branch = spec.branch(modality)
        widths = ", ".join(str(width) for width in branch.temporal.widths)
        wide = f"embeddings {branch.embedding} wide, TCN {widths} with kernel {branch.temporal.kernel}"
        rows.append((f"branch {modality.value}", wide))
    return table(("", ""), rows)


def folds_table(manifest: Manifest) -> str:
    """Each fold's validation CCC."""
    rows = []
    for number, fold in enumerate(manifest.folds):
        reached = fold.validation_ccc or {}
        scores = (decimals(reached[t]) if t in reached else "none" for t in manifest.spec.targets)
        rows.append((str(number), *scores))
    targets = tuple(f"validation CCC, {target}" for target in manifest.spec.targets)
    return table(("fold", *targets), rows, numbers=len(targets))


def recipe_table(manifest: Manifest) -> str:
    """How recordings become what the networks see: frame rate, crop, sound, and the parts that made the features."""
    recipe = manifest.recipe
    crop = recipe.crop
    rows = [
        ("frames a second", f"{recipe.frame_rate:g}"),
        (
            "face",
            f"{crop.stored_size} x {crop.stored_size}, {'grey' if crop.grey else 'colour'}, framed by "
            f"{crop.framing}; {crop.input_size} x {crop.input_size} of it are seen",
        ),
        (
            "sound",
            f"{recipe.logmel.sample_rate} Hz, {recipe.logmel.bands} log-mel bands, "
            f"{recipe.logmel.patch_frames} frames at once",
        ),
    ]
    for role, use in recipe.parts.items():
        where = (
            "in the bundle" if use.bundled else f"sha256 {use.sha256[:12]}" if use.sha256 else "any content"
        )
        rows.append((role.replace("_", " "), f"{use.name} ({where})"))
    return table(("", ""), rows)


def provenance_table(manifest: Manifest, folder: Path) -> str:
    """Which commands, options, material and versions made the bundle, and its text encoder where that says so."""
    rows: list[Row] = []
    for key, value in sorted(manifest.provenance.items()):
        rows += _flat(key, _parsed(value))
    if manifest.text and (folder / TEXT / TEXT_PROVENANCE).is_file():
        rows += _flat(
            "text encoder", read_json(folder / TEXT / TEXT_PROVENANCE, way_out="make the bundle again")
        )
    return table(("", ""), rows)


def spread_table(manifest: Manifest) -> str:
    """The error to expect, as published, of what was present and of the spread between folds."""
    calibration = manifest.spread
    if calibration is None:
        return NOT_CALIBRATED
    rows: list[Row] = []
    for pattern in calibration.floor:
        errors = [calibration.expected_error(np.full(len(TARGETS), spread), pattern) for spread in SPREADS]
        for k, target in enumerate(TARGETS):
            rows.append((pattern.replace("+", ", "), target, *(decimals(float(e[k]), 2) for e in errors)))
    scales = ", ".join(f"{target} {decimals(calibration.scale[target], 2)}" for target in TARGETS)
    head = ("there was", "target", *(f"folds differ by {spread:g}" for spread in SPREADS))
    return (
        table(head, rows, numbers=len(SPREADS))
        + f"\n\nThe squared spread between folds counts with the factor {scales}; to it the first column's "
        "square is added."
    )


def emotion_table() -> str:
    """Where each emotion is taken to lie, and why."""
    rows = [
        (name, decimals(place.valence, 2, sign=True), decimals(place.arousal, 2, sign=True), place.reason)
        for name, place in EMOTIONS.items()
    ]
    return table(("emotion", "valence", "arousal", "why there"), rows)


def composition_table() -> str:
    """How often each thing happens in a composed trial, and how much each channel counts in its labels."""
    happens = [
        ("face", _shares(FACE_MODES.items())),
        ("voice", _shares(VOICE_MODES.items())),
        ("words", _shares(WORDS_MODES.items())),
        ("talking", f"{TALKING_SHARE:.0%} of episodes"),
        (
            "episode",
            f"{SHORTEST_S:g} to {LONGEST_S:g} s; in {TURNING_SHARE:.0%} one feeling turns into another",
        ),
    ]
    counts = [
        (name, f"{valence:g}", f"{arousal:g}", f"{RISE_S[name]:g} s", f"{MEMORY_S[name]:g} s")
        for name, (valence, arousal) in WEIGHTS.items()
    ]
    head = ("channel", "counts for valence", "for arousal", "counts in full after", "is forgotten within")
    return f"{table(('in an episode', 'how often'), happens)}\n\n{table(head, counts, numbers=4)}"


def _shares(often: Iterable[tuple[str, float]]) -> str:
    return ", ".join(f"{mode} {share:.0%}" for mode, share in often)


def _scalar(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _flat(name: str, value: Any) -> Iterator[Row]:
    """Names and values of nested JSON, a row each; of a list of objects the last, of long lists how long they are."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}", inner)
    elif isinstance(value, list) and value and isinstance(value[-1], dict):
        yield from _flat(f"{name}.{len(value)}", value[-1])
    else:
        said = without_folders(", ".join(map(_scalar, value)) if isinstance(value, list) else _scalar(value))
        yield name, said if len(said) <= _LONGEST else f"{said[:_LONGEST]}..."
