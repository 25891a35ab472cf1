"""Pretraining a slim preset's encoders, on people of whom no fold ever sees anything.

What MS-Celeb-1M and FER+ are to the report's IR-50, AudioSet to its VGGish, and a library to its BERT, a store of
other performed people is to ours: the backbone learns to tell valence and arousal from single pictures, the audio
encoder from single patches of sound, the text encoder from recognised words. Their heads are thrown away; backbone
and audio encoder become the encoders that all folds share, the text encoder a folder for
`offline-preprocess`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor

from models.audio.vggish import Vggish
from models.errors import UserError
from models.spec import TARGETS, LanguageSpec, Target
from models.text.small_bert import make_text_encoder
from models.visual.backbone import Backbone
from offline.data.folds import split_folds
from offline.files import DiskProblem, Json, replacing_folder
from offline.pretraining.base import ENCODERS, EncoderName, PretrainingTask
from offline.pretraining.tasks import make_task
from offline.tensors import load_tensors, save_tensors
from offline.training import validate
from offline.training.checkpoint import (
    optimizer_tensors,
    random_tensors,
    restore_optimizer,
    restore_random,
    seed_everything,
)
from offline.training.loss import ccc_loss, squared_error
from offline.training.pretrained import PretrainedEncoders, save_pretrained
from offline.training.run import hash_store, provenance

if TYPE_CHECKING:
    from pathlib import Path

    from offline.data.store import Store, TrialRecord
    from offline.metrics import TargetScores
    from offline.training.options import PretrainOptions

FORMAT_VERSION: Final = 1


@dataclass(frozen=True)
class PretrainEpoch:
    """An epoch of one part is done."""

    part: EncoderName
    epoch: int
    epochs: int
    loss: float
    ccc: dict[Target, float]
    best: bool
    seconds: float


Report = Callable[[PretrainEpoch], None]


def pretrain_part(
    store: Store, part: EncoderName, options: PretrainOptions, checkpoint: Path, report: Report
) -> dict[Target, float]:
    """Train one part to its end and leave it in `checkpoint`; goes on where a killed run stopped.

    The best epoch's weights by mean CCC on the store's validation people (a fifth of the people where there is no
    such partition) are kept. Returns their CCC per target. Raises UserError where the store cannot be learned from,
    where the checkpoint is of another run, or where training diverges.
    """
    training, validation = split_people(store)
    random = seed_everything((options.seed, ENCODERS.index(part)))
    task = make_task(part, options).to(options.device)
    optimizer = torch.optim.AdamW(
        task.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay
    )
    identity = {"options": options.model_dump(mode="json"), "store_hash": hash_store(store), "part": part}
    epochs = {"visual": options.epochs, "audio": options.audio_epochs, "language": options.language_epochs}[
        part
    ]
    steps, epoch = 0, 0
    best: dict[Target, float] = {}
    weights: dict[str, Tensor] = {}
    if checkpoint.is_file():
        tensors, state = load_tensors(checkpoint)
        if state.get("format_version") != FORMAT_VERSION or state.get("identity") != identity:
            raise UserError(
                f"{checkpoint} is of another pretraining: remove it, or give the same store and options"
            )
        task.load_state_dict(_without_prefix("learner/", tensors))
        weights = _without_prefix("best/", tensors)
        restore_optimizer(optimizer, tensors, state["optimizer"])
        restore_random(random, tensors, state["random"])
        steps, epoch, best = int(state["steps"]), int(state["epoch"]), dict(state["best"])
    total = task.steps(training) * epochs
    total = total if options.max_steps is None else min(total, options.max_steps)
    while epoch < epochs and not _reached_max_steps(steps, options):
        started = time.monotonic()
        task.train()
        losses = []
        for estimates, labels in task.epoch(training, random):
            for group in optimizer.param_groups:
                group["lr"] = options.learning_rate * _learning_rate_factor(steps, total)
            # A batch is judged as one series: people differ, and so must the estimates.
            series = estimates[None], labels[None]
            loss = ccc_loss(*series) + squared_error(*series)
            if not math.isfinite(loss.item()):
                raise UserError(
                    f"pretraining the {part} part has diverged in epoch {epoch + 1}: lower --learning-rate"
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(loss.item())
            steps += 1
            if _reached_max_steps(steps, options):
                break
        epoch += 1
        cccs = {t: s.ccc for t, s in judge(task, validation).items()}
        keep = not best or sum(cccs.values()) > sum(best.values())
        if keep:
            best, weights = cccs, {k: v.detach().clone() for k, v in task.encoder.state_dict().items()}
        _save(
            checkpoint,
            task,
            optimizer,
            random,
            weights,
            {
                "format_version": FORMAT_VERSION,
                "identity": identity,
                "steps": steps,
                "epoch": epoch,
                "best": best,
            },
        )
        report(
            PretrainEpoch(part, epoch, epochs, float(np.mean(losses)), cccs, keep, time.monotonic() - started)
        )
    return best


@torch.no_grad()
def judge(task: PretrainingTask, trials: Sequence[TrialRecord]) -> TargetScores:
    """Scores per target over all trials together; leaves the task in eval mode."""
    task.eval()
    series = [task.predict(trial) for trial in trials]
    estimates = torch.cat([a.cpu() for a, _ in series]).numpy()
    labels = torch.cat([b for _, b in series]).numpy()
    return validate.judge(estimates, labels, TARGETS)


def join_parts(
    store: Store,
    options: PretrainOptions,
    checkpoints: Mapping[EncoderName, Path],
    out: Path,
    text_encoder: Path,
) -> str:
    """Write the pretrained encoders of finished parts, and the folder `text_encoder` of a finished language part.

    Returns the file's SHA-256. Raises UserError where something cannot be written.
    """
    spec = options.network
    found: dict[EncoderName, dict[str, Tensor]] = {}
    reached: Json = {}
    for part, path in checkpoints.items():
        tensors, state = load_tensors(path)
        found[part] = _without_prefix("best/", tensors)
        reached[part] = {"validation_ccc": state["best"], "epochs": state["epoch"], "steps": state["steps"]}
    backbone, encoder = None, None
    if "visual" in found and spec.visual is not None:
        backbone = Backbone(spec.visual.backbone)
        backbone.load_state_dict(found["visual"])
    if "audio" in found and spec.audio is not None:
        encoder = Vggish(spec.audio.encoder)
        encoder.load_state_dict(found["audio"])
    if "language" in found and spec.language is not None:
        _write_text_encoder(text_encoder, spec.language, options.seed, found["language"])
    source: Json = {
        "source": "offline-pretrain",
        "store": store.folder.name,
        "store_hash": hash_store(store),
        "people": len({t.subject for t in store.trials()}),
        "frames": sum(t.frames for t in store.trials()),
        "options": options.model_dump(mode="json"),
        "reached": reached,
        "software": provenance(),
    }
    return save_pretrained(out, PretrainedEncoders(backbone, encoder, store.recipe, source))


def _write_text_encoder(folder: Path, spec: LanguageSpec, seed: int, weights: Mapping[str, Tensor]) -> None:
    """The folder appears whole or not at all, in place of one that was there."""
    try:
        with replacing_folder(folder) as staged:
            make_text_encoder(staged, spec.embedding, seed, weights)
    except OSError as e:
        raise DiskProblem.of(folder, e) from e


def split_people(store: Store) -> tuple[list[TrialRecord], list[TrialRecord]]:
    """Who to learn from and who to judge by: the store's partitions, or four fifths and one fifth of its people.

    Test trials are left out. Raises UserError where there are fewer than two people.
    """
    training, validation = list(store.trials("train")), list(store.trials("validation"))
    if training and validation:
        split_folds(store.trials())
        return training, validation
    trials = training or validation
    people = list(dict.fromkeys(t.subject for t in trials))
    if len(people) < 2:
        raise UserError(
            f"the store {store.folder} has {len(people)} people to learn from, and pretraining needs at least two",
            way_out="preprocess recordings of more people",
        )
    judged = set(people[-max(1, len(people) // 5) :])
    return [t for t in trials if t.subject not in judged], [t for t in trials if t.subject in judged]


def _learning_rate_factor(step: int, total: int) -> float:
    warm = max(1, total // 10)
    if step < warm:
        return (step + 1) / warm
    return max(0.01, 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, total - warm)))))


def _reached_max_steps(steps: int, options: PretrainOptions) -> bool:
    return options.max_steps is not None and steps >= options.max_steps


def _save(
    path: Path,
    task: PretrainingTask,
    optimizer: torch.optim.Optimizer,
    random: np.random.Generator,
    weights: dict[str, Tensor],
    state: Json,
) -> None:
    slots, groups = optimizer_tensors(optimizer)
    randoms, rest = random_tensors(random)
    tensors = {f"learner/{k}": v for k, v in task.state_dict().items()}
    tensors |= {f"best/{k}": v for k, v in weights.items()}
    save_tensors(path, tensors | slots | randoms, state | {"optimizer": groups, "random": rest})


def _without_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
