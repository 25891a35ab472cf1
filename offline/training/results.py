"""What training left behind: a run's folds read back, for bundling and for reports."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from models.bundle.manifest import FeatureRecipe
from models.bundle.tensors import fill
from models.errors import UserError
from models.networks.fold import EmotionNetwork
from models.spec import Modality, NetworkSpec, Target
from offline.data.folds import FoldSplit, read_folds
from offline.files import Json, read_json, reason
from offline.tensors import load_tensors
from offline.training.options import TrainOptions
from offline.training.pretrained import PretrainedEncoders, load_pretrained
from offline.training.run import FORMAT_VERSION, FoldFolder, RunFolder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class Epoch(BaseModel):
    """A line of `history.jsonl`: what an epoch trained with and what it reached."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    epoch: int
    phase: int
    released: tuple[str, ...]
    learning_rate: float
    loss: float
    validation_ccc: dict[Target, float]
    best: bool
    seconds: float


@dataclass(frozen=True, eq=False)
class TrainedFold:
    """One fold as far as it came: its number in the split, and what its `result.json` says."""

    number: int
    folder: FoldFolder
    result: Json

    @property
    def _way_out(self) -> str:
        """What mends a damaged file of a fold's folder."""
        return f"remove {self.folder.path} and train the fold again with offline-train --resume"

    @property
    def finished(self) -> bool:
        """Whether its training is over."""
        return self.result.get("finished") is True

    @property
    def validation_ccc(self) -> dict[Target, float]:
        """CCC by target on the fold's own validation part. Raises UserError where the file is damaged."""
        try:
            return {target: float(value) for target, value in self.result["validation_ccc"].items()}
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            raise UserError(
                f"{self.folder.result} is damaged: it has no validation CCC", way_out=self._way_out
            ) from e

    def network(self, spec: NetworkSpec) -> EmotionNetwork:
        """The best epoch's network with its normalisation, in eval mode. Raises UserError where files are damaged."""
        tensors, _ = load_tensors(self.folder.best, way_out=self._way_out)
        for name, value in tensors.items():
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                raise UserError(
                    f"{self.folder.best} is unusable: {name} holds NaN or infinite values",
                    way_out=self._way_out,
                )
        with torch.random.fork_rng(devices=[]):
            network = EmotionNetwork(spec)
        fill(network, tensors, str(self.folder.best))
        try:
            for modality in spec.modalities:
                mean, std = self.result["normalisation"][modality.value]
                network.set_normalisation(Modality(modality), float(mean), float(std))
        except (KeyError, TypeError, ValueError) as e:
            raise UserError(
                f"{self.folder.result} is damaged: it has no sound normalisation", way_out=self._way_out
            ) from e
        return network.eval()

    def history(self) -> list[Epoch]:
        """Every epoch, in order; none where training has not come to the end of one.

        Raises UserError where a line is damaged.
        """
        path = self.folder.history
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
            return [Epoch.model_validate_json(line) for line in lines if line.strip()]
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as e:
            raise UserError(f"{path} cannot be read ({reason(e)})", way_out=self._way_out) from e
        except ValidationError as e:
            raise UserError(
                f"{path} is damaged: a line of it is no epoch's record", way_out=self._way_out
            ) from e


@dataclass(frozen=True, eq=False)
class TrainedRun:
    """A run: its options, what its features were made with, its split, and the folds that were begun, by number."""

    folder: RunFolder
    record: Json
    options: TrainOptions
    spec: NetworkSpec
    recipe: FeatureRecipe
    split: FoldSplit
    folds: tuple[TrainedFold, ...]

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.path.resolve().name

    def pretrained(self, trunk: Path | None = None) -> PretrainedEncoders:
        """What the folds stand on: from `trunk`, else from the run's own file.

        Raises UserError where there is none, or where `trunk` is not what the run was begun with.
        """
        path = trunk or self.folder.pretrained
        if not path.is_file():
            raise UserError(f"{path} does not exist: give --trunk, the file that the run was begun with")
        found = load_pretrained(path, self.spec, self.options.seed)
        if found.provenance != self.record.get("foundation"):
            raise UserError(
                f"{path} is not what the run {self.folder.path} stands on: give the trunk it was begun with"
            )
        return found


def open_run(folder: Path) -> TrainedRun:
    """Open a run's folder. Raises UserError where it is none, or is damaged."""
    run = RunFolder(folder)
    if not run.record.is_file():
        raise UserError(f"{folder} is not a run: it has no {run.record.name}; make one with offline-train")
    record = read_json(run.record, way_out="train another run")
    if record.get("format_version") != FORMAT_VERSION:
        raise UserError(
            f"{run.record} has format version {record.get('format_version')}: update affectstream"
        )
    try:
        options = TrainOptions.model_validate_json(json.dumps(record["options"]))
        spec = NetworkSpec.model_validate_json(json.dumps(record["spec"]))
        recipe = FeatureRecipe.model_validate_json(json.dumps(record["recipe"]))
    except (KeyError, ValidationError) as e:
        raise UserError(
            f"{run.record} is damaged, or of another version of affectstream", way_out="train another run"
        ) from e
    split = read_folds(run.split)
    folders = [(k, run.fold(k)) for k in range(split.folds)]
    folds = [TrainedFold(k, f, f.read_result()) for k, f in folders if f.result.is_file()]
    return TrainedRun(run, record, options, spec, recipe, split, tuple(folds))


def find_runs(folders: Sequence[Path]) -> list[Path]:
    """The runs that are meant: folders that are one, and of others the runs directly in them, by name.

    Raises UserError for a folder that neither is nor holds a run.
    """
    found: list[Path] = []
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"there is no folder {folder}: give a run's, as offline-train made it")
        inside = sorted(p.parent for p in folder.glob("*/run.json") if (p.parent / "folds.json").is_file())
        runs = [folder] if (folder / "run.json").is_file() else inside
        if not runs:
            raise UserError(f"{folder} is not a run and holds none: make one with offline-train")
        found += runs
    # A run that was named in two ways is one run.
    return list({run.resolve(): run for run in found}.values())
