"""All trials of a plan into a store, side by side; what is there already stays."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from models.bundle.manifest import PartUse
from models.bundle.save import text_encoder_files
from models.errors import UserError
from models.files import file_hash, tree_hash
from models.parts.registry import require_part
from models.text.embedder import TextEmbedder
from models.visual.detectors import HaarDetector, make_detector
from offline.composer.material_files import MaterialFiles, load_material
from offline.composer.trial import compose, compose_recipe, trial_fingerprint, write_composition
from offline.data.extraction import NoFaceDetector
from offline.data.extractors import Extractors
from offline.data.preprocess import prepare_store
from offline.data.recipe import FeatureParts
from offline.data.store import read_trial
from offline.files import DiskProblem
from offline.processes import run_jobs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from offline.composer.material import Material
    from offline.composer.plan import ComposedTrial, ComposePlan
    from stream.options import DetectorChoice

KEPT: Final = ".observed"


@dataclass(frozen=True)
class ComposeJob:
    """What every worker needs: the plan, the material's files, the store, and the parts that make features."""

    plan: ComposePlan
    files: MaterialFiles
    store: Path
    detector: DetectorChoice
    text_encoder: Path
    text_width: int
    material_hash: str

    def feature_parts(self) -> FeatureParts:
        """The recipe and the text encoder; crops are composed, not detected."""
        found = make_detector(self.detector, framing="box")
        sha256 = found.sha256() if isinstance(found, HaarDetector) else require_part("yunet").sha256
        files = {path.name: file_hash(path) for path in text_encoder_files(self.text_encoder)}
        text = PartUse(name=self.text_encoder.resolve().name, sha256=tree_hash(files))
        return FeatureParts(
            recipe=compose_recipe(PartUse(name=found.name, sha256=sha256), text),
            detector=self.detector,
            recogniser=None,
            text_encoder=self.text_encoder,
            text_width=self.text_width,
            audio_encoder=None,
        )

    def load_material(self, on_picture: Callable[[], None] = lambda: None) -> list[Material]:
        """The material by part; what the detector found is kept in the store."""
        return load_material(
            self.files, make_detector(self.detector, framing="box"), self.store / KEPT, on_picture
        )


def prepare(job: ComposeJob) -> list[ComposedTrial]:
    """Makes the store's folder, and says which trials are still to be composed.

    Raises UserError where the folder holds something else, or features of another recipe.
    """
    prepare_store(job.store, job.feature_parts())
    return [trial for trial in job.plan.trials if not _is_there(job, trial)]


def compose_trials(
    job: ComposeJob,
    trials: Sequence[ComposedTrial],
    workers: int,
    on_trial: Callable[[ComposedTrial], None],
) -> None:
    """Composes the trials; each appears whole or not at all. Raises UserError where one could not be made."""
    for ended in run_jobs(trials, _compose_one, workers, make_tools=partial(_load, job)):
        if ended.error is not None:
            raise ended.error
        on_trial(ended.job)


@dataclass(frozen=True, eq=False)
class _Tools:
    job: ComposeJob
    materials: list[Material]
    extractors: Extractors


def _load(job: ComposeJob) -> _Tools:
    extractors = Extractors(
        job.feature_parts(), NoFaceDetector("composed"), None, TextEmbedder(job.text_encoder), None
    )
    return _Tools(job, job.load_material(), extractors)


def _compose_one(tools: _Tools, trial: ComposedTrial, report: Callable[[None], None]) -> None:
    job = tools.job
    material = tools.materials[trial.part]
    composition = compose(trial, job.plan, material, tools.extractors.parts.recipe)
    if not np.isfinite(composition.labels).all():
        raise UserError(
            f"{trial.name} has labels that are not finite",
            way_out="compose with another --seed, and report it",
        )
    try:
        write_composition(
            trial,
            trial_fingerprint(trial, job.plan, job.material_hash),
            composition,
            tools.extractors,
            job.store,
        )
    except OSError as e:
        raise DiskProblem.of(job.store, e) from e


def _is_there(job: ComposeJob, trial: ComposedTrial) -> bool:
    facts = read_trial(job.store / trial.partition / trial.name)
    return facts is not None and facts.fingerprint == trial_fingerprint(trial, job.plan, job.material_hash)
