"""Trained folds into one bundle: gathered, written, loaded again and held to what they were, then put in place."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from models.bundle.card import keep_card
from models.bundle.load import Bundle, load_bundle, save_bundle
from models.bundle.manifest import MANIFEST, FeatureRecipe, Manifest, PartUse
from models.bundle.save import write_spread
from models.errors import UserError
from models.parts.registry import PARTS
from models.spec import TARGETS, Modality, NetworkSpec, Target
from offline.bundling.probe import store_probe
from offline.bundling.spread import calibrate_spread
from offline.data.store import Store, bundle_recipe, recipe_differences
from offline.files import DiskProblem, replacing_folder
from offline.training.cache import weights_hash

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from models.audio.vggish import Vggish
    from models.networks.fold import EmotionNetwork
    from offline.training.results import TrainedFold, TrainedRun

AGREEMENT: Final = 1e-4
"""How far a bundle's outputs may lie from its folds': batch norms round by less when they are folded in."""

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class BundlingOptions:
    """How a bundle is made: its `name` (the folder's if empty), its `note` (500 characters at most).

    `trunk` stands for the run's own; `text_encoder` is the folder of the encoder that the store was made with;
    `probe_from` is a store whose training people are the bundle's probe (else that is drawn noise); `calibrate_from`
    one whose test trials, which no fold trained on, tell how wrong the estimates are.
    """

    name: str = ""
    note: str = ""
    trunk: Path | None = None
    text_encoder: Path | None = None
    probe_from: Path | None = None
    calibrate_from: Path | None = None
    allow_missing: bool = False
    overwrite: bool = False


@dataclass(frozen=True)
class BundlingResult:
    """What was made: the manifest, the number of each fold in the split, the largest difference found, the size."""

    manifest: Manifest
    folds: tuple[int, ...]
    difference: float
    megabytes: float


def check_target(folder: Path, options: BundlingOptions) -> str:
    """The bundle's name, once it is sure that `folder` may be written. Raises UserError."""
    name = options.name or folder.resolve().name
    if not _NAME.fullmatch(name):
        raise UserError(
            f"'{name}' cannot be a bundle's name: letters, digits, dots, dashes and underscores; give --name"
        )
    if len(options.note) > 500:
        raise UserError("the --note is too long: 500 characters at most")
    if folder.exists():
        if not folder.is_dir() or (any(folder.iterdir()) and not (folder / MANIFEST).is_file()):
            raise UserError(f"{folder} holds something that is not a bundle: give another folder")
        if not options.overwrite and any(folder.iterdir()):
            raise UserError(f"{folder} exists already: give another folder, or --overwrite to replace it")
    return name


def make_bundle(runs: Sequence[TrainedRun], folder: Path, options: BundlingOptions) -> BundlingResult:
    """Make a bundle in `folder` of one run's folds, or of two runs that have a target each.

    Raises UserError where a fold is missing or unfinished (named) unless `allow_missing`, where runs do not belong
    together, where an encoder is not the one that the folds were trained with, or where the written bundle does not
    compute what the folds do; nothing is left in `folder` then.
    """
    name = check_target(folder, options)
    check_together(runs)
    numbers = complete_folds(runs, options.allow_missing)
    by_number = [{fold.number: fold for fold in run.folds} for run in runs]
    members = [
        [found[n].network(run.spec) for run, found in zip(runs, by_number, strict=True)] for n in numbers
    ]
    encoder = _audio_encoder(runs, options.trunk)
    recipe = _recipe(runs[0], options.text_encoder)
    probe = None if options.probe_from is None else _probe(runs[0], options.probe_from, encoder)
    try:
        with replacing_folder(folder) as staged:
            try:
                manifest = save_bundle(
                    staged,
                    name=name,
                    folds=members,
                    recipe=recipe,
                    trained=True,
                    note=options.note,
                    validation_ccc=[_validation_ccc([found[n] for found in by_number]) for n in numbers],
                    provenance=_provenance(runs, numbers, by_number),
                    audio_encoder=encoder,
                    text_encoder_folder=options.text_encoder,
                    probe=probe,
                )
            except ValueError as e:
                raise UserError(
                    f"the folds do not go into one bundle ({e})", way_out="give runs of one preset"
                ) from e
            _check_text_encoder(runs[0], manifest, options)
            difference = _verify(staged, members, encoder)
            if options.calibrate_from is not None:
                bundle = load_bundle(str(staged), missing_parts="tolerate")
                spread = calibrate_spread(bundle, Store.open(options.calibrate_from))
                manifest = write_spread(staged, spread)
            keep_card(folder, staged)
            size = sum(p.stat().st_size for p in staged.rglob("*") if p.is_file()) / 1e6
    except OSError as e:
        raise DiskProblem.of(folder, e) from e
    return BundlingResult(manifest, tuple(numbers), difference, size)


def _probe(run: TrainedRun, folder: Path, encoder: Vggish | None) -> dict[str, Tensor]:
    store = Store.open(folder)
    store.check_recipe(run.recipe, f"the run {run.name}")
    return store_probe(store, run.spec, encoder)


def check_together(runs: Sequence[TrainedRun]) -> None:
    """Refuse runs that cannot share a bundle: there are targets twice or missing, or other features, folds, sizes."""
    first = runs[0]
    targets = [t for run in runs for t in run.spec.targets]
    if len(set(targets)) != len(targets):
        names = ", ".join(run.name for run in runs)
        raise UserError(
            f"a bundle has each target once, but several of these runs estimate the same: {names}",
            way_out="give one run, or two that have a target each",
        )
    if set(targets) != set(TARGETS):
        missing = next(t for t in TARGETS if t not in targets)
        raise UserError(f"{first.folder.path} estimates {targets[0]} alone: give the run of {missing} too")
    for run in runs[1:]:
        spec = run.spec.model_copy(update={"targets": first.spec.targets})
        for what, same in (
            ("network", spec == first.spec),
            ("features", run.recipe == first.recipe),
            ("split", run.split == first.split),
        ):
            if not same:
                raise UserError(
                    f"{run.folder.path} has another {what} than {first.folder.path}",
                    way_out="train both on one store, with one folds.json and the same options",
                )


def complete_folds(runs: Sequence[TrainedRun], allow_missing: bool) -> list[int]:
    """The folds that every run has finished. Raises UserError for others, unless they may be left out."""
    wanting: dict[int, str] = {}
    for run in runs:
        found = {fold.number: fold for fold in run.folds}
        for number in range(run.split.folds):
            if number not in found:
                wanting.setdefault(number, f"fold {number} of {run.folder.path} is missing")
            elif not found[number].finished:
                wanting.setdefault(number, f"fold {number} of {run.folder.path} is not finished")
    numbers = [n for n in range(runs[0].split.folds) if n not in wanting]
    if wanting and not allow_missing:
        raise UserError(
            f"{'; '.join(wanting.values())}: train with offline-train --resume, or leave out with --allow-missing"
        )
    if not numbers:
        raise UserError(f"{runs[0].folder.path} has no finished fold: train with offline-train")
    return numbers


def _audio_encoder(runs: Sequence[TrainedRun], trunk: Path | None) -> Vggish | None:
    """The run's own encoder of sound, None where the folds were trained on an installed part's."""
    if runs[0].spec.audio is None:
        return None
    encoders = [run.pretrained(trunk).audio_encoder for run in runs]
    if len({None if e is None else weights_hash(e) for e in encoders}) > 1:
        raise UserError(
            f"{runs[1].folder.path} has another audio encoder than {runs[0].folder.path}",
            way_out="train both with the same --trunk",
        )
    if encoders[0] is None and runs[0].recipe.audio_encoder is None:
        raise UserError(
            f"{runs[0].folder.path} has no audio encoder: give --trunk, the file that it was begun with"
        )
    return encoders[0]


def _recipe(run: TrainedRun, text_encoder: Path | None) -> FeatureRecipe:
    """The store's recipe as far as the network has branches for it."""
    recipe, spec = run.recipe, run.spec
    if spec.language is None:
        recipe = recipe.model_copy(update={"text_encoder": None, "recogniser": None})
        if text_encoder is not None:
            raise UserError(f"{run.folder.path} has no language branch: leave --text-encoder out")
    elif text_encoder is None:
        use = recipe.text_encoder
        if use is None:
            raise UserError(
                f"{run.folder.record} is damaged: a language branch, but no text encoder",
                way_out="train another run",
            )
        if use.name not in PARTS:
            raise UserError(
                f"the bundle must bring its text encoder, since {use.name} is no part that models-pull installs: "
                "give --text-encoder, the folder that the store was made with"
            )
    if spec.audio is None:
        recipe = recipe.model_copy(update={"audio_encoder": None})
    elif recipe.audio_encoder is None:
        # Replaced by the bundled one when the bundle is written; its name is what it was made for.
        recipe = recipe.model_copy(update={"audio_encoder": PartUse(name=f"{run.options.preset}-vggish")})
    return recipe


def _check_text_encoder(run: TrainedRun, manifest: Manifest, options: BundlingOptions) -> None:
    """Hold what was bundled to what the store was made with, by hash."""
    wanted = FeatureRecipe(frame_rate=run.recipe.frame_rate, text_encoder=run.recipe.text_encoder)
    made = bundle_recipe(manifest)
    if options.text_encoder is not None and recipe_differences(
        wanted, FeatureRecipe(frame_rate=run.recipe.frame_rate, text_encoder=made.text_encoder)
    ):
        raise UserError(
            f"{options.text_encoder} is not the text encoder that {run.folder.path} was trained with: its content is "
            "another one than the store's recipe names",
            way_out="give the folder that the store was made with",
        )


def _validation_ccc(folds: Sequence[TrainedFold]) -> dict[Target, float]:
    return {target: value for fold in folds for target, value in fold.validation_ccc.items()}


def _provenance(
    runs: Sequence[TrainedRun], numbers: Sequence[int], by_number: Sequence[Mapping[int, TrainedFold]]
) -> dict[str, str]:
    first = runs[0].record
    epochs = [" ".join(str(found[n].result.get("epochs")) for n in numbers) for found in by_number]
    return {
        "command": "offline-bundle",
        "runs": " ".join(run.name for run in runs),
        "folds": " ".join(map(str, numbers)),
        "epochs": ", ".join(epochs),
        "store": str(first.get("store", "")),
        "store_hash": str(first.get("store_hash", "")),
        "split_sha256": str(first.get("split_sha256", "")),
        "foundation": json.dumps(first.get("foundation", {}), sort_keys=True),
        "options": json.dumps(first["options"], sort_keys=True),
        "software": json.dumps(first.get("provenance", {}), sort_keys=True),
    }


@torch.inference_mode()
def _verify(folder: Path, members: Sequence[Sequence[EmotionNetwork]], encoder: Vggish | None) -> float:
    """Load the bundle and compare it with the folds on its probe: the largest difference. Raises UserError."""
    bundle = load_bundle(folder, missing_parts="tolerate")
    given = _probe_inputs(bundle.probe, bundle.ensemble.spec)
    found = bundle.ensemble(**given)
    expected = torch.stack([_fold_output(networks, given) for networks in members])
    difference = float((found - expected).abs().max())
    if encoder is not None:
        difference = max(difference, _encoder_difference(bundle, encoder))
    if not difference <= AGREEMENT:
        raise UserError(
            f"the written bundle computes something else than its folds: they differ by {difference:.2g}",
            way_out="remove what is damaged of the run and train it again; if it stays so, report it",
        )
    return difference


def _probe_inputs(probe: Mapping[str, Tensor], spec: NetworkSpec) -> dict[str, Tensor]:
    names = {Modality.VISUAL: "crops", Modality.AUDIO: "audio", Modality.LANGUAGE: "language"}
    return {names[m]: probe[names[m]][None] for m in spec.modalities}


def _fold_output(networks: Sequence[EmotionNetwork], given: Mapping[str, Tensor]) -> Tensor:
    """One fold's outputs (1, T, 2), targets in their order."""
    by_target = {
        target: network.forward_crops(**given)[..., k]
        for network in networks
        for k, target in enumerate(network.spec.targets)
    }
    return torch.stack([by_target[target] for target in TARGETS], dim=-1)


def _encoder_difference(bundle: Bundle, encoder: Vggish) -> float:
    assert bundle.audio_encoder is not None
    patches = bundle.probe["patches"]
    return float((bundle.audio_encoder(patches) - encoder(patches)).abs().max())
