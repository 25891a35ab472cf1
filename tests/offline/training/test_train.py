"""Training one fold: it learns, it freezes what is frozen, and it ends well."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from models.errors import UserError
from models.networks.fold import EmotionNetwork
from models.spec import Modality
from offline.commands.progress import TrainingLines
from offline.training import tensorboard, train
from offline.training.events import StepDone, TrainingEvent
from offline.training.schedule import ScheduleOptions
from offline.training.train import train_fold
from tests.offline.training.runs import QUICK, begin, nothing, options

if TYPE_CHECKING:
    from pathlib import Path


def test_a_fold_learns_and_says_what_it_reached(tmp_path: Path, tiny_store: Path, tiny_trunk: Path) -> None:
    run = begin(tmp_path / "run", tiny_store, tiny_trunk)
    lines: list[TrainingEvent] = []
    result = train_fold(run, 0, lines.append, tensorboard=False)
    folder = run.folder.fold(0)
    assert result == json.loads(folder.result.read_text())
    assert result["finished"]
    assert min(result["validation_ccc"].values()) > 0.5
    assert result["validation_frames"]["valence"] == sum(
        int((~np.isnan(t.labels[:, 0])).sum()) for t in run.store.trials("validation")
    )
    history = [json.loads(line) for line in folder.history.read_text().splitlines()]
    assert [line["epoch"] for line in history] == [1, 2]
    assert history[1]["loss"] < history[0]["loss"]
    network = EmotionNetwork(run.options.network)
    network.load_state_dict(load_file(folder.best))
    assert any(isinstance(e, StepDone) for e in lines)


def test_the_trunk_is_the_same_after_training_and_what_is_released_is_not(
    tmp_path: Path, tiny_store: Path, tiny_trunk: Path
) -> None:
    # Any epoch that is no new best releases the next group.
    eager = ScheduleOptions(
        learning_rate=3e-3, least_learning_rate=2e-3, warm_up=0, patience=0, epochs=6, early_stopping=50
    )
    run = begin(tmp_path / "run", tiny_store, tiny_trunk, options(schedule=eager, augment=False, seed=3))
    assert run.pretrained.backbone is not None
    before = {k: v.clone() for k, v in run.pretrained.backbone.state_dict().items()}
    result = train_fold(run, 0, nothing, tensorboard=False)
    history = [json.loads(line) for line in run.folder.fold(0).history.read_text().splitlines()]
    best = load_file(run.folder.fold(0).best)
    used = history[result["best_epoch"] - 1]["released"]
    changed = {
        run.pretrained.backbone.group_of(name)
        for name, value in before.items()
        if not torch.equal(value, best[f"backbone.{name}"])
    }
    assert changed == {"output", *used}


@pytest.mark.parametrize("groups", [(), ("layer4",), ("layer4", "layer3_tail")])
def test_what_is_frozen_is_frozen_whole(groups: tuple[str, ...]) -> None:
    """Neither weights nor batch-norm statistics of a frozen group move, those of every other one do."""
    torch.manual_seed(0)
    network = EmotionNetwork(options().network)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    optimizer = torch.optim.Adam(train.freeze(network, groups), lr=1e-2)
    train.set_modes(network, groups)
    assert network.backbone is not None
    crops = torch.randn(1, 8, 3, 40, 40)
    embeddings = {Modality.AUDIO: torch.randn(1, 8, 32), Modality.LANGUAGE: torch.randn(1, 8, 48)}
    network({**embeddings, Modality.VISUAL: network.embed_visual(crops)}).square().sum().backward()
    optimizer.step()
    after = network.state_dict()
    moved = {
        network.backbone.group_of(k.removeprefix("backbone."))
        for k in after
        if k.startswith("backbone.") and not torch.equal(before[k], after[k])
    }
    assert moved == {"output", *groups}
    assert not torch.equal(before["head.weight"], after["head.weight"])


def test_all_folds_share_one_trunk_and_one_audio_encoder(
    tmp_path: Path, tiny_store: Path, tiny_trunk: Path
) -> None:
    brief = options(max_steps=1)
    run = begin(tmp_path / "run", tiny_store, tiny_trunk, brief)
    for k in (0, 1):
        train_fold(run, k, nothing, tensorboard=False)
    first, second = (load_file(run.folder.fold(k).best) for k in (0, 1))
    assert run.pretrained.backbone is not None
    for name in run.pretrained.backbone.state_dict():
        if run.pretrained.backbone.group_of(name) == "trunk":
            assert torch.equal(first[f"backbone.{name}"], second[f"backbone.{name}"])
    assert not torch.equal(first["head.weight"], second["head.weight"])


def test_accumulated_batches_are_one_step_of_the_optimiser(
    tmp_path: Path, tiny_store: Path, tiny_trunk: Path
) -> None:
    run = begin(
        tmp_path / "run",
        tiny_store,
        tiny_trunk,
        options(accumulate=4, schedule=QUICK.model_copy(update={"epochs": 1})),
    )
    result = train_fold(run, 0, nothing, tensorboard=False)
    windows = len(train._Training(run, 0, run.folder.fold(0), nothing).windows)
    assert result["steps"] == math.ceil(math.ceil(windows / 2) / 4)


def test_a_loss_that_is_not_finite_ends_training_with_the_checkpoint_kept(
    tmp_path: Path, tiny_store: Path, tiny_trunk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begin(tmp_path / "run", tiny_store, tiny_trunk)
    real, calls = train.ccc_loss, iter(range(1000))  # type: ignore[attr-defined]
    batches = math.ceil(len(train._Training(run, 0, run.folder.fold(0), nothing).windows) / 2)
    monkeypatch.setattr(
        train, "ccc_loss", lambda y, g: real(y, g) * (float("nan") if next(calls) == batches + 2 else 1.0)
    )
    with pytest.raises(UserError, match=r"loss is nan in epoch 2.*last checkpoint is kept"):
        train_fold(run, 0, nothing, tensorboard=False)
    assert run.folder.fold(0).checkpoint.is_file()
    assert not run.folder.fold(0).finished


def test_a_fold_is_trained_by_one_process_at_a_time(
    tmp_path: Path, tiny_store: Path, tiny_trunk: Path
) -> None:
    run = begin(tmp_path / "run", tiny_store, tiny_trunk)
    with run.folder.fold(0).lock(), pytest.raises(UserError, match="another process"):
        train_fold(run, 0, nothing, tensorboard=False)


def test_single_targets_and_single_branches_can_be_trained(
    tmp_path: Path, tiny_store: Path, tiny_trunk: Path
) -> None:
    given = options(targets=("arousal",), modalities=(Modality.LANGUAGE,), context="stream")
    run = begin(tmp_path / "run", tiny_store, tiny_trunk, given)
    result = train_fold(run, 0, nothing, tensorboard=False)
    assert set(result["validation_ccc"]) == {"arousal"}
    assert set(result["normalisation"]) == {"language"}


def test_mixed_precision_trains(tmp_path: Path, tiny_store: Path, tiny_trunk: Path) -> None:
    run = begin(tmp_path / "run", tiny_store, tiny_trunk, options(amp=True, max_steps=3))
    result = train_fold(run, 0, nothing, tensorboard=False)
    assert result["stopped"] == "max steps"
    assert result["steps"] == 3


def test_without_tensorboard_nothing_is_logged_and_nothing_breaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorboard, "installed", lambda: False)
    with tensorboard.open_log(tmp_path, 0) as log:
        log({"epoch": 1})
    assert list(tmp_path.iterdir()) == []


def test_plain_lines_say_what_happens(
    tiny_store: Path, tiny_trunk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = begin(tmp_path / "run", tiny_store, tiny_trunk, options(max_steps=2))
    train_fold(run, 0, TrainingLines(), tensorboard=False)
    lines = capsys.readouterr().out.splitlines()
    assert "windows, at most 2 epochs" in lines[0]
    assert "fold 0: epoch 1/2, phase 0, lr 3.0e-03, loss" in lines[1]
    assert "fold 0: finished (max steps)" in lines[-1]
