"""Training one fold (report section 3.4): epochs of windows, judged on the validation part, never lost.

At the end of every epoch the best weights so far are loaded and a checkpoint is written, so a checkpoint holds one
set of weights, and whatever kills the process costs one epoch at most. A killed run that is resumed computes the same
numbers as one that was not: order, crops and dropout come from states that the checkpoint holds.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, replace
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from models.errors import UserError
from models.networks.fold import EmotionNetwork
from models.spec import Modality, Target
from offline.files import Json, remove_unfinished, write_json
from offline.metrics import Scores
from offline.tensors import load_tensors, save_tensors
from offline.training.batches import Batch, TrainingInputs, TrialWindow
from offline.training.checkpoint import (
    optimizer_tensors,
    random_tensors,
    restore_optimizer,
    restore_random,
    seed_everything,
)
from offline.training.events import CacheFilled, EpochDone, FoldDone, FoldError, FoldStarted, Report, StepDone
from offline.training.loss import ccc_loss, frame_loss
from offline.training.run import FoldFolder, Run, append_history
from offline.training.schedule import ScheduleState, initial_state, learning_rate, released, step
from offline.training.tensorboard import open_log
from offline.training.validate import evaluate

FORMAT_VERSION: Final = 1
MAX_STEPS: Final = "max steps"


@dataclass(frozen=True)
class Progress:
    """Where a fold is, between two epochs; the best epoch's scores are None before the first."""

    schedule: ScheduleState
    steps: int = 0
    seconds: float = 0.0
    scores: dict[Target, Scores] | None = None
    stopped: str | None = None


def train_fold(run: Run, index: int, report: Report, *, tensorboard: bool = True) -> Json:
    """Train one fold to its end, from its checkpoint where there is one; returns what `result.json` holds.

    Raises UserError where the data do not fit, the checkpoint is damaged, or training diverges; what was reached
    before stays on disk.
    """
    folder = run.folder.fold(index)
    with folder.lock():
        remove_unfinished(folder.path)
        remove_unfinished(run.folder.path)
        remove_unfinished(run.folder.cache, deep=True)
        training = _Training(run, index, folder, report)
        return training.run_to_end(tensorboard)


def freeze(network: EmotionNetwork, groups: tuple[str, ...]) -> list[nn.Parameter]:
    """Freeze the backbone whole except for its output layer and the released `groups`; what is left to train.

    Nothing of a frozen group changes: no weights, and in `set_modes` no batch-norm statistics.
    """
    network.requires_grad_(True)
    if network.backbone is not None:
        for name, group in network.backbone.groups().items():
            group.requires_grad_(name == "output" or name in groups)
    return [p for p in network.parameters() if p.requires_grad]


def set_modes(network: EmotionNetwork, groups: tuple[str, ...]) -> None:
    """Train mode, except for what is frozen."""
    network.train()
    if network.backbone is not None:
        for name, group in network.backbone.groups().items():
            if name != "output" and name not in groups:
                group.eval()


def forward_batch(network: EmotionNetwork, batch: Batch) -> Tensor:
    """Estimates (B, T, K) of a batch; the frozen units' part of the work is in `batch.maps`."""
    windows, frames = batch.labels.shape[:2]
    given = {Modality.AUDIO: batch.audio, Modality.LANGUAGE: batch.language}
    embeddings = {m: x for m, x in given.items() if x is not None}
    if network.backbone is not None and batch.maps is not None:
        embeddings[Modality.VISUAL] = network.backbone.tail(batch.maps, batch.units).view(windows, frames, -1)
    estimates: Tensor = network(embeddings, batch.available)
    return estimates


class _Training:
    """One fold's training while it runs."""

    def __init__(self, run: Run, index: int, folder: FoldFolder, report: Report) -> None:
        self.run, self.index, self.folder, self.report = run, index, folder, report
        self.options = run.options
        self.schedule = run.options.effective_schedule
        self.fold = run.split.fold(index)
        by_name = {t.name: t for t in run.store.trials()}
        self.inputs = TrainingInputs(
            run.store,
            [by_name[name] for name in (*self.fold.training, *self.fold.validation)],
            run.pretrained,
            run.options,
            run.folder.cache,
            run.store_hash,
        )
        self.validation = [by_name[name] for name in self.fold.validation]
        self.device = torch.device(run.options.device)
        self.windows = self.inputs.windows(self.fold.training, run.options)
        if not self.windows:
            raise FoldError(
                f"fold {index} has no labelled frame to train on, since every label is missing",
                way_out="preprocess trials that have labels",
            )
        # Everything random from here on comes from the seed and the fold.
        self.random = seed_everything((run.options.seed, index))
        self.network = EmotionNetwork(run.options.network)
        if self.network.backbone is not None:
            assert run.pretrained.backbone is not None
            self.network.backbone.load_state_dict(run.pretrained.backbone.state_dict())
        self.network.to(self.device)
        self.progress = Progress(initial_state(self.schedule))
        self.optimizer = self._new_optimizer()

    def run_to_end(self, tensorboard: bool) -> Json:
        self.report(
            FoldStarted(self.index, self.schedule.epochs, len(self.windows), self.inputs.cache_entries)
        )
        backwards = self.index % 2 == 1
        for _ in self.inputs.fill_sound(backwards=backwards):
            self.report(CacheFilled(self.index))
        self.normalisation = self.inputs.normalisation(self.fold.training)
        for modality, (mean, std) in self.normalisation.items():
            self.network.set_normalisation(modality, mean, std)
        if self.folder.checkpoint.is_file():
            self._restore()
        else:
            write_json(self.folder.record, {**self.run.record, "fold": self.index})
        groups = released(self.progress.schedule, self.schedule)
        for _ in self.inputs.fill_maps(groups, backwards=backwards):
            self.report(CacheFilled(self.index))
        with open_log(self.folder.path, self.progress.schedule.epoch, enabled=tensorboard) as log:
            while self.progress.stopped is None:
                line = self._epoch()
                log(line)
        return self._finish()

    def _epoch(self) -> Json:
        started = time.monotonic()
        state = self.progress.schedule
        groups, rate = released(state, self.schedule), learning_rate(state, self.schedule)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss, steps = self._train(groups, rate)
        scores = self._evaluate(groups)
        after, actions = step(state, _mean_ccc(scores), self.schedule)
        if actions.keep:
            self.weights = {k: v.detach().clone() for k, v in self.network.state_dict().items()}
            save_tensors(self.folder.best, self.weights, self._describe(after.epoch, scores))
        self.network.load_state_dict(self.weights)
        steps += self.progress.steps
        spent = self.options.max_steps is not None and steps >= self.options.max_steps
        seconds = time.monotonic() - started
        self.progress = Progress(
            schedule=after,
            steps=steps,
            seconds=self.progress.seconds + seconds,
            scores=scores if actions.keep else self.progress.scores,
            stopped=actions.stop or (MAX_STEPS if spent else None),
        )
        if actions.release:
            self.optimizer = self._new_optimizer()
        line: Json = {
            "epoch": after.epoch,
            "phase": state.phase,
            "released": list(groups),
            "learning_rate": rate,
            "loss": loss,
            "validation_ccc": {t: s.ccc for t, s in scores.items()},
            "validation_rmse": {t: s.rmse for t, s in scores.items()},
            "validation_pcc": {t: s.pcc for t, s in scores.items()},
            "best": actions.keep,
            "steps": steps,
            "seconds": round(seconds, 3),
        }
        # The history first: a line too many is dropped at the next resume, one too few would stay missing.
        append_history(self.folder.history, line, after.epoch)
        self._save()
        write_json(self.folder.result, self._result(finished=False))
        self.report(EpochDone(self.index, line, after.best or 0.0, actions.release, self.progress.stopped))
        return line

    def _train(self, groups: tuple[str, ...], rate: float) -> tuple[float, int]:
        """One epoch over all windows, or up to `max_steps`: (mean loss of a batch, the optimiser's steps)."""
        options = self.options
        set_modes(self.network, groups)
        order = self.random.permutation(len(self.windows))
        batches = [
            [self.windows[i] for i in order[begin : begin + options.batch]]
            for begin in range(0, len(order), options.batch)
        ]
        most = math.inf if options.max_steps is None else options.max_steps - self.progress.steps
        losses: list[float] = []
        steps = 0
        for begin in range(0, len(batches), options.accumulate):
            if steps >= most:
                break
            together = batches[begin : begin + options.accumulate]
            self.optimizer.zero_grad(set_to_none=True)
            losses += [self._learn(batch, len(together), groups) for batch in together]
            self.optimizer.step()
            steps += 1
            total = math.ceil(len(batches) / options.accumulate)
            epoch = self.progress.schedule.epoch + 1
            self.report(StepDone(self.index, epoch, steps, int(min(total, most)), losses[-1], rate))
        return float(np.mean(losses)), steps

    def _learn(self, windows: list[TrialWindow], share: int, groups: tuple[str, ...]) -> float:
        batch = self.inputs.batch(windows, self.random, groups)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.options.amp):
            estimates = forward_batch(self.network, batch)
        loss = (ccc_loss if self.options.loss == "windows" else frame_loss)(estimates, batch.labels)
        value = loss.item()
        if not math.isfinite(value):
            raise FoldError(
                f"fold {self.index}: the loss is {value} in epoch {self.progress.schedule.epoch + 1}: training has "
                "diverged; the last checkpoint is kept, try a lower --learning-rate in another --run folder"
            )
        (loss / share).backward()  # type: ignore[no-untyped-call]
        return value

    def _evaluate(self, groups: tuple[str, ...] | None) -> dict[Target, Scores]:
        options = self.options
        return evaluate(
            self.network, self.inputs, self.validation, options.window_spec, options.context, groups
        )

    def _new_optimizer(self) -> torch.optim.Adam:
        trainable = freeze(self.network, released(self.progress.schedule, self.schedule))
        return torch.optim.Adam(
            trainable, lr=self.schedule.learning_rate, weight_decay=self.options.weight_decay
        )

    def _save(self) -> None:
        optimizer, groups = optimizer_tensors(self.optimizer)
        randoms, rest = random_tensors(self.random)
        network = {f"network/{name}": value for name, value in self.weights.items()}
        scores = self.progress.scores or {}
        progress = asdict(replace(self.progress, scores=None)) | {
            "scores": {t: asdict(s) for t, s in scores.items()}
        }
        state = {
            "format_version": FORMAT_VERSION,
            "fold": self.index,
            "progress": progress,
            "optimizer": groups,
            "random": rest,
        }
        save_tensors(self.folder.checkpoint, network | optimizer | randoms, state)

    def _restore(self) -> None:
        path = self.folder.checkpoint
        tensors, state = load_tensors(path, way_out=f"remove {path.parent} to train it from the start")
        try:
            if state["format_version"] != FORMAT_VERSION or state["fold"] != self.index:
                raise ValueError("it is of another format or fold")
            saved = dict(state["progress"])
            self.progress = Progress(
                schedule=ScheduleState(**saved["schedule"]),
                steps=int(saved["steps"]),
                seconds=float(saved["seconds"]),
                scores={t: Scores(**s) for t, s in saved["scores"].items()},
                stopped=saved["stopped"],
            )
            self.weights = {
                k.removeprefix("network/"): v.to(self.device)
                for k, v in tensors.items()
                if k.startswith("network/")
            }
            self.network.load_state_dict(self.weights)
            self.optimizer = self._new_optimizer()
            restore_optimizer(self.optimizer, tensors, state["optimizer"])
            restore_random(self.random, tensors, state["random"])
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as e:
            detail = " ".join(str(e).split())[:120]
            raise UserError(
                f"{path} is no checkpoint of this fold ({detail}): remove {path.parent} to train it from the start"
            ) from e

    def _finish(self) -> Json:
        """Judge the best weights once more where the epochs were judged on rounded maps, and close the books."""
        if self.options.cache_trunk and self.network.backbone is not None:
            self.progress = replace(self.progress, scores=self._evaluate(None))
        result = self._result(finished=True)
        write_json(self.folder.result, result)
        self.report(FoldDone(self.index, result))
        return result

    def _result(self, *, finished: bool) -> Json:
        scores, state = self.progress.scores or {}, self.progress.schedule
        return {
            "fold": self.index,
            "finished": finished,
            "stopped": self.progress.stopped,
            "epochs": state.epoch,
            "best_epoch": state.best_epoch,
            "released": list(released(state, self.schedule)),
            "steps": self.progress.steps,
            "seconds": round(self.progress.seconds, 3),
            "validation_ccc": {t: s.ccc for t, s in scores.items()},
            "validation_rmse": {t: s.rmse for t, s in scores.items()},
            "validation_pcc": {t: s.pcc for t, s in scores.items()},
            "validation_frames": {t: s.frames for t, s in scores.items()},
            "normalisation": {m.value: list(pair) for m, pair in self.normalisation.items()},
        }

    def _describe(self, epoch: int, scores: dict[Target, Scores]) -> Json:
        return {
            "fold": self.index,
            "epoch": epoch,
            "spec": self.network.spec.model_dump(mode="json"),
            "validation_ccc": {t: s.ccc for t, s in scores.items()},
        }


def _mean_ccc(scores: dict[Target, Scores]) -> float:
    return float(np.mean([s.ccc for s in scores.values()]))
