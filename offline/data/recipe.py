"""Which parts make the features: from what the user asked for to files, and to the recipe that names them.

Everything is found and hashed here, once; each process then loads the same parts from the same files.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from models.bundle.load import load_bundle
from models.bundle.manifest import FeatureRecipe, PartUse
from models.bundle.save import text_encoder_files
from models.errors import UserError
from models.files import file_hash, file_hashes, tree_hash
from models.parts.registry import PARTS, InstalledPart, find_part, require_part
from models.spec import CROP_SPECS, PRESETS
from models.speech.recogniser import find_recogniser
from models.visual.detectors import HaarDetector, make_detector
from offline.data.aff_wild2 import CROPS, has_crops

if TYPE_CHECKING:
    from stream.options import DetectorChoice

DISTRIBUTED: Final = "distributed-crops"
"""In a recipe, in a detector's place: the crops came with the data set."""

PERFORMED: Final = "performance.json"
"""Marks a performed corpus: synthetic voices, which only the shipped recogniser understands."""

_BUNDLE: Final = "bundle:"

_TEXT_ENCODERS: Final = {"paper": "bert-base-uncased", "compact": "bundle:demo", "practical": "bundle:people"}
"""The text encoder of each preset where none is named."""


@dataclass(frozen=True)
class PartChoices:
    """What the user asked for; `auto` follows the preset, the data set and what is installed.

    `text_encoder`: `auto`, `none`, `bundle:NAME`, an installed part or a folder. `audio_encoder`: `auto`, `none` or
    `vggish`. `recogniser`: `auto`, `none`, a model's name or a folder. `detector`: `auto` takes the crops that came
    with the data set where it has any; a detector's name takes our own face stage all the same. `frame_rate` is the
    recordings', in frames per second.
    """

    preset: str = "compact"
    detector: DetectorChoice = "auto"
    frame_rate: float = 30.0
    recogniser: str = "auto"
    text_encoder: str = "auto"
    audio_encoder: str = "auto"


@dataclass(frozen=True)
class FeatureParts:
    """The parts that make the features, as files, and the recipe that names them.

    A part is None where it was not asked for; `text_width` is then 0. `notes` are lines that the user should see.
    `detector` finds the faces of trials without crops where the recipe is the data set's own crops.
    """

    recipe: FeatureRecipe
    detector: DetectorChoice
    recogniser: Path | None
    text_encoder: Path | None
    text_width: int
    audio_encoder: Path | None
    notes: tuple[str, ...] = ()

    @property
    def takes_crops(self) -> bool:
        """Whether crops that came with the data set are taken."""
        return self.recipe.detector is not None and self.recipe.detector.name == DISTRIBUTED


def choose_parts(choices: PartChoices, dataset: Path) -> FeatureParts:
    """Finds everything that is asked for; loads no network.

    Raises UserError, with the way out, where a part is missing, or where a choice makes no sense.
    """
    if choices.preset not in PRESETS:
        raise UserError(f"there is no preset '{choices.preset}': choose from {', '.join(PRESETS)}")
    if not 1 <= choices.frame_rate <= 1000:
        raise UserError(f"--frame-rate must be 1 to 1000 frames a second, not {choices.frame_rate:g}")
    notes: list[str] = []
    detector, detector_use = _detector(choices, dataset, notes)
    recogniser, recogniser_use = _recogniser(choices.recogniser, dataset, notes)
    text_encoder, text_use = _text_encoder(choices.text_encoder, choices.preset)
    audio_encoder, audio_use = _audio_encoder(choices.audio_encoder, choices.preset)
    return FeatureParts(
        recipe=FeatureRecipe(
            frame_rate=choices.frame_rate,
            crop=CROP_SPECS[choices.preset],
            detector=detector_use,
            recogniser=recogniser_use,
            text_encoder=text_use,
            audio_encoder=audio_use,
        ),
        detector=detector,
        recogniser=recogniser,
        text_encoder=text_encoder,
        text_width=0 if text_encoder is None else _text_width(text_encoder),
        audio_encoder=audio_encoder,
        notes=tuple(notes),
    )


def _detector(choices: PartChoices, dataset: Path, notes: list[str]) -> tuple[DetectorChoice, PartUse]:
    choice = choices.detector
    detector = make_detector(choice, framing=CROP_SPECS[choices.preset].framing)
    found: DetectorChoice = "haar" if isinstance(detector, HaarDetector) else "yunet"
    if choice == "auto" and has_crops(dataset):
        notes.append(
            f"crops are the data set's own ({CROPS}/); live, {found} finds the faces: to train on what it finds, "
            f"give --detector {found} and another store"
        )
        return found, PartUse(name=DISTRIBUTED)
    if choice == "auto" and not (dataset / PERFORMED).is_file():
        notes.append(f"no {CROPS}/ came with the data set: {found} finds the faces")
    sha256 = detector.sha256() if isinstance(detector, HaarDetector) else require_part("yunet").sha256
    return found, PartUse(name=detector.name, sha256=sha256)


def _recogniser(choice: str, dataset: Path, notes: list[str]) -> tuple[Path | None, PartUse | None]:
    if choice == "auto" and (dataset / PERFORMED).is_file():
        choice = "vosk-tiny"
    installed: dict[str, InstalledPart] = {}

    def find(name: str) -> InstalledPart | None:
        part = find_part(name) if name in PARTS else None
        if part is not None:
            installed[name] = part
        return part

    found = find_recogniser(choice, find)
    if found.folder is None:
        if found.way_out:
            notes.append(f"no words: {found.reason} ({found.way_out})")
        return None, None
    part = installed.get(found.name) or find(found.name)
    if part is not None and part.path == found.folder:
        return found.folder, PartUse(name=found.name, sha256=part.sha256)
    return found.folder, PartUse(name=_plain(found.name), sha256=tree_hash(file_hashes(found.folder)))


def _text_encoder(choice: str, preset: str) -> tuple[Path | None, PartUse | None]:
    if choice == "auto":
        choice = _TEXT_ENCODERS[preset]
    if choice == "none":
        return None, None
    if choice.startswith(_BUNDLE):
        return _text_encoder_of(choice.removeprefix(_BUNDLE))
    if choice in PARTS:
        part = require_part(choice)
        if not (part.path / "config.json").is_file():
            raise UserError(f"{choice} is no text encoder: give {_BUNDLE}NAME, bert-base-uncased or a folder")
        return part.path, PartUse(name=choice, sha256=part.sha256)
    folder = Path(choice).expanduser()
    if not folder.is_dir():
        raise UserError(
            f"there is no text encoder '{choice}': give none, {_BUNDLE}NAME, bert-base-uncased, "
            "or the folder of a transformers model"
        )
    return folder, PartUse(name=_plain(folder.resolve().name), sha256=_text_hash(folder))


def _text_encoder_of(name: str) -> tuple[Path, PartUse]:
    bundle = load_bundle(name, missing_parts="tolerate")
    use, folder = bundle.manifest.recipe.text_encoder, bundle.text_encoder_folder
    if use is None:
        raise UserError(f"the bundle '{name}' has no language branch: choose another text encoder")
    if folder is None:
        raise UserError(
            f"the bundle '{name}' expects the text encoder {use.name}: run `models-pull {use.name}`"
        )
    sha256 = _text_hash(folder) if use.bundled else require_part(use.name).sha256
    return folder, PartUse(name=use.name, sha256=sha256)


def _audio_encoder(choice: str, preset: str) -> tuple[Path | None, PartUse | None]:
    if choice == "auto":
        choice = "vggish" if preset == "paper" else "none"
    if choice == "none":
        return None, None
    if choice != "vggish":
        raise UserError(f"there is no audio encoder '{choice}': give none or vggish")
    part = require_part("vggish")
    return part.path, PartUse(name="vggish", sha256=part.sha256)


def _text_hash(folder: Path) -> str:
    """Over the files that a bundle takes in, so that a bundle with this encoder in it has the same hash."""
    return tree_hash({path.name: file_hash(path) for path in text_encoder_files(folder)})


def _text_width(folder: Path) -> int:
    try:
        return int(json.loads((folder / "config.json").read_text(encoding="utf-8"))["hidden_size"])
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise UserError(
            f"{folder} is not a text encoder's folder: its config.json says no hidden_size",
            way_out="give the folder of a transformers model, or one that offline-pretrain-words made",
        ) from e


def _plain(name: str) -> str:
    """A name that a manifest may hold."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", name).lstrip(".-")[:100] or "unnamed"
