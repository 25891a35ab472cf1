"""Pretraining the face backbone of a preset whose crops are grey squares, on FER+: from files to a trunk."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from models.bundle.manifest import FeatureRecipe
from models.errors import UserError
from models.files import file_hash
from models.spec import CROP_SPECS, CropSpec, VisualSpec
from models.visual.backbone import Backbone
from models.visual.detectors import FaceDetector, HaarDetector, make_detector
from offline.composer.detected_faces import detect_faces
from offline.people.ferplus import difference_hashes, read_pictures
from offline.people_pretraining.faces import (
    FaceBatches,
    FaceModel,
    FaceScores,
    FaceSet,
    face_loss,
    score_faces,
)
from offline.people_pretraining.one_cycle import OneCycle
from offline.people_pretraining.prelu import vectorize_prelu
from offline.tensors import load_tensors, save_tensors
from offline.training.checkpoint import (
    optimizer_tensors,
    random_tensors,
    restore_optimizer,
    restore_random,
    seed_everything,
)
from offline.training.pretrained import PretrainedEncoders, save_pretrained
from offline.training.run import provenance

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from offline.files import Json
    from offline.people_pretraining.options import FaceOptions
    from stream.options import DetectorChoice

FORMAT_VERSION: Final = 1

VALENCE_WANTED: Final = 0.885
AROUSAL_WANTED: Final = 0.865
"""Epochs that reach these CCCs on the validation pictures are told apart by their error of expressions' means."""

_CYCLE: Final = OneCycle(rising=0.15)
_AVERAGING: Final = 0.998
_GRADIENT_NORM: Final = 5.0


@dataclass(frozen=True)
class FaceFiles:
    """FER+ archives to learn from and to choose by, and the detector that finds the faces in them."""

    training: Path
    validation: Path
    detector: DetectorChoice = "auto"


@dataclass(frozen=True, eq=False)
class FaceMaterial:
    """Pictures as they are learned from and chosen by; `identity` says which they are."""

    training: FaceSet
    validation: FaceSet
    identity: Json


@dataclass(frozen=True)
class FaceEpoch:
    """An epoch is done: its mean loss, and how the averaged weights judge the validation pictures."""

    epoch: int
    epochs: int
    loss: float
    scores: FaceScores
    best: bool
    seconds: float


def crop_spec(options: FaceOptions) -> tuple[VisualSpec, CropSpec]:
    """The preset's visual branch and crop. Raises UserError where its backbone cannot be taught by grey pictures."""
    visual, crop = options.network.visual, CROP_SPECS[options.preset]
    if visual is None or crop.framing != "box" or not crop.grey:
        fitting = [name for name, spec in CROP_SPECS.items() if spec.framing == "box" and spec.grey]
        raise UserError(
            f"the {options.preset} preset's crops are not grey squares about a box, as FER+ pictures are: "
            f"give --preset {' or '.join(fitting)}"
        )
    return visual, crop


def read_material(
    files: FaceFiles, kept_in: Path, on_picture: Callable[[], None] = lambda: None
) -> FaceMaterial:
    """The pictures, and where a detector finds the faces; what it found is kept in the folder `kept_in`.

    Pictures whose near-duplicate is to be validated on are not trained on. Raises UserError where a file is absent,
    of another form, or no picture is left to learn from.
    """
    detector = make_detector(files.detector, framing="box")
    training, validation = read_pictures(files.training), read_pictures(files.validation)
    fresh = ~np.isin(difference_hashes(training.images), difference_hashes(validation.images))
    if fresh.sum() < 2:
        raise UserError(
            f"{files.training} has no two pictures that are not in {files.validation} too",
            way_out="give two archives that have no pictures in common",
        )
    learned = FaceSet.from_pictures(training, detect_faces(training.images, detector, kept_in, on_picture))
    judged = FaceSet.from_pictures(validation, detect_faces(validation.images, detector, kept_in, on_picture))
    learned = learned.take(torch.from_numpy(np.flatnonzero(fresh)))
    identity = {
        "training": file_hash(files.training),
        "validation": file_hash(files.validation),
        "detector": _detector_identity(detector),
        "pictures": len(learned),
        "validation_pictures": len(judged),
        "near_duplicates_left_out": int((~fresh).sum()),
    }
    return FaceMaterial(learned, judged, identity)


def pretrain_faces(
    material: FaceMaterial, options: FaceOptions, checkpoint: Path, report: Callable[[FaceEpoch], None]
) -> FaceScores:
    """Train to the end and leave all in `checkpoint`; goes on, to the same weights, where a killed run stopped.

    An exponential average of the weights is judged after each epoch, and the best is kept (`rank`). The same options,
    files and machine give the same weights. Returns the best epoch's scores. Raises UserError where the checkpoint
    is of another run, or training diverges.
    """
    run = _Run.begin(material, options)
    if checkpoint.is_file():
        run.restore(checkpoint)
    while run.epoch < options.epochs:
        started = time.monotonic()
        loss = run.train_epoch()
        scores, best = run.judge()
        run.save(checkpoint)
        report(FaceEpoch(run.epoch, options.epochs, loss, scores, best, time.monotonic() - started))
    assert run.best is not None
    return run.best


def write_trunk(material: FaceMaterial, options: FaceOptions, checkpoint: Path, out: Path) -> str:
    """Make the file for `offline-train --trunk` of a finished run; returns its SHA-256.

    Its recipe names no detector: either's crops are framed alike. Raises UserError where it cannot be written.
    """
    visual, crop = crop_spec(options)
    tensors, state = load_tensors(checkpoint)
    backbone = Backbone(visual.backbone)
    prefix = "best/encoder."
    backbone.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    source: Json = {
        "source": "offline-pretrain-people",
        "faces": material.identity,
        "options": options.model_dump(mode="json"),
        "reached": {"visual": state["best"]},
        "software": provenance(),
    }
    return save_pretrained(out, PretrainedEncoders(backbone, None, FeatureRecipe(crop=crop), source))


def rank(scores: FaceScores) -> tuple[bool, float]:
    """What the best epoch is greatest in: both CCCs as wanted, and then the least error of expressions' means; where
    none is as wanted, the sum of the CCCs.
    """
    wanted = scores.ccc["valence"] >= VALENCE_WANTED and scores.ccc["arousal"] >= AROUSAL_WANTED
    return (True, -scores.level_error) if wanted else (False, sum(scores.ccc.values()))


@dataclass(eq=False)
class _Run:
    """A run between two epochs; `material.identity` and the options say which."""

    material: FaceMaterial
    options: FaceOptions
    crop: CropSpec
    model: FaceModel
    averaged: FaceModel
    optimizer: torch.optim.Optimizer
    loader: np.random.Generator
    changes: torch.Generator
    batches: FaceBatches
    steps: int = 0
    epoch: int = 0
    best: FaceScores | None = None
    best_weights: dict[str, Tensor] | None = None

    @classmethod
    def begin(cls, material: FaceMaterial, options: FaceOptions) -> _Run:
        """Before the first step."""
        visual, crop = crop_spec(options)
        loader = seed_everything((options.seed,))
        model = FaceModel(visual)
        vectorize_prelu(model)
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        matrices = [p for p in model.parameters() if p.ndim > 1]
        vectors = [p for p in model.parameters() if p.ndim == 1]
        optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": options.weight_decay},
                {"params": vectors, "weight_decay": 0.0},
            ],
            lr=options.learning_rate,
        )
        changes = torch.Generator().manual_seed(options.seed)
        batches = FaceBatches(material.training, options, crop, changes)
        averaged = copy.deepcopy(model)
        return cls(material, options, crop, model, averaged, optimizer, loader, changes, batches)

    def train_epoch(self) -> float:
        """One epoch; returns its mean loss. Raises UserError where training diverges."""
        self.model.train()
        total, losses = self.options.epochs * self.batches.steps, []
        for _ in range(self.batches.steps):
            _CYCLE.apply(self.optimizer, self.steps, total, self.options.learning_rate)
            inputs, shares = self.batches.draw()
            with torch.autocast("cpu", torch.bfloat16):
                estimates, logits = self.model(inputs)
            loss = face_loss(estimates.float(), logits.float(), shares, self.options.level_weight)
            if not math.isfinite(loss.item()):
                raise UserError(
                    f"pretraining on faces has diverged in epoch {self.epoch + 1}: lower --learning-rate"
                )
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.model.parameters(), _GRADIENT_NORM)
            self.optimizer.step()
            # Early on the average is over few steps, so that it leaves the random weights behind.
            _average_weights(self.averaged, self.model, min(_AVERAGING, (1 + self.steps) / (10 + self.steps)))
            self.steps += 1
            losses.append(loss.item())
        self.epoch += 1
        return float(np.mean(losses))

    def judge(self) -> tuple[FaceScores, bool]:
        """The averaged weights' scores, and whether they are the best so far."""
        try:
            scores = score_faces(self.averaged, self.material.validation, self.crop)
        except ValueError as e:
            raise UserError(
                f"pretraining on faces has diverged ({e})", way_out="lower --learning-rate"
            ) from e
        best = self.best is None or rank(scores) > rank(self.best)
        if best:
            self.best = scores
            self.best_weights = {k: v.detach().clone() for k, v in self.averaged.state_dict().items()}
        return scores, best

    def save(self, path: Path) -> None:
        """Everything that the next epoch depends on."""
        assert self.best is not None
        assert self.best_weights is not None
        slots, groups = optimizer_tensors(self.optimizer)
        randoms, rest = random_tensors(self.loader)
        tensors = {f"learner/{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"averaged/{k}": v for k, v in self.averaged.state_dict().items()}
        tensors |= {f"best/{k}": v for k, v in self.best_weights.items()}
        tensors["changes"] = self.changes.get_state()
        state = {
            "format_version": FORMAT_VERSION,
            "identity": self._identity(),
            "steps": self.steps,
            "epoch": self.epoch,
            "best": self.best.as_json(),
            "optimizer": groups,
            "random": rest,
        }
        save_tensors(path, tensors | slots | randoms, state)

    def restore(self, path: Path) -> None:
        """Go on where `save` was called. Raises UserError where the file is of another run or is damaged."""
        tensors, state = load_tensors(path)
        if state.get("format_version") != FORMAT_VERSION or state.get("identity") != self._identity():
            raise UserError(
                f"{path} is of another pretraining: remove it, or give the same files and options"
            )
        self.model.load_state_dict(_without_prefix("learner/", tensors))
        self.averaged.load_state_dict(_without_prefix("averaged/", tensors))
        self.best_weights = _without_prefix("best/", tensors)
        self.best = FaceScores.from_json(state["best"])
        restore_optimizer(self.optimizer, tensors, state["optimizer"])
        restore_random(self.loader, tensors, state["random"])
        self.changes.set_state(tensors["changes"])
        self.steps, self.epoch = int(state["steps"]), int(state["epoch"])

    def _identity(self) -> Json:
        return {"material": self.material.identity, "options": self.options.model_dump(mode="json")}


@torch.no_grad()
def _average_weights(averaged: nn.Module, module: nn.Module, kept: float) -> None:
    """Exponential moving average of weights and statistics; counters are taken over."""
    for mean, now in zip(averaged.state_dict().values(), module.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(now, 1 - kept)
        else:
            mean.copy_(now)


def _detector_identity(detector: FaceDetector) -> Json:
    from models.parts.registry import require_part

    sha256 = detector.sha256() if isinstance(detector, HaarDetector) else require_part("yunet").sha256
    return {"name": detector.name, "sha256": sha256}


def _without_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
