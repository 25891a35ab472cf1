"""Training one fold: it learns, it freezes what is frozen, and bad input gets one clear line."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from models.errors import UserError
from models.networks.fold import EmotionNetwork
from models.spec import Modality
from offline.commands.progress import TrainingLines
from offline.data.arrays import write_rows
from offline.data.folds import FoldSplit, split_folds, write_folds
from offline.data.store import Store
from offline.training import tensorboard, train
from offline.training.batches import TrainingInputs
from offline.training.events import StepDone, TrainingEvent
from offline.training.options import TrainOptions
from offline.training.pretrained import load_pretrained, save_pretrained
from offline.training.run import Run, RunFolder, prepare_run
from offline.training.schedule import ScheduleOptions
from offline.training.train import train_fold
from tests.offline.stores import write_trial, write_trunk

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

QUICK = ScheduleOptions(learning_rate=3e-3, warm_up=1, epochs=2)


def options(**changes: Any) -> TrainOptions:
    return TrainOptions(
        **{"preset": "compact", "schedule": QUICK, "window": 30, "hop": 20, "cache_trunk": 2, **changes}
    )


def begin(
    folder: Path, store: Path, trunk: Path | None, given: TrainOptions | None = None, *, resume: bool = False
) -> Run:
    run, _ = prepare_run(
        RunFolder(folder),
        Store.open(store),
        given or options(),
        trunk=trunk,
        split=None,
        parts=5,
        resume=resume,
    )
    return run


def nothing(event: TrainingEvent) -> None:
    pass


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from offline.commands.train import command; command()", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


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


def test_normalisation_is_over_the_training_part_alone(
    tmp_path: Path, tiny_store: Path, tiny_trunk: Path
) -> None:
    run = begin(tmp_path / "run", tiny_store, tiny_trunk)
    fold = run.split.fold(2)
    inputs = TrainingInputs(
        run.store, run.store.trials(), run.pretrained, run.options, run.folder.cache, run.store_hash
    )
    found = inputs.normalisation(fold.training)
    words = np.concatenate([run.store.trial(n).language for n in fold.training])
    assert found[Modality.LANGUAGE] == pytest.approx((words.mean(), words.std()), abs=1e-5)
    assert found[Modality.VISUAL] == (0.0, 1.0)


def test_kept_maps_are_the_trunk_s(tmp_path: Path, tiny_store: Path, tiny_trunk: Path) -> None:
    """Caching the trunk changes a trial's embeddings by float16's rounding, and nothing else."""
    run = begin(tmp_path / "run", tiny_store, tiny_trunk)
    trial = run.store.trials("validation")[0]
    inputs = TrainingInputs(run.store, [trial], run.pretrained, run.options, run.folder.cache, run.store_hash)
    network = EmotionNetwork(run.options.network).eval()
    assert network.backbone is not None
    assert run.pretrained.backbone is not None
    network.backbone.load_state_dict(run.pretrained.backbone.state_dict())
    exact, *kept = (
        inputs.embeddings(network, trial, released).embeddings[Modality.VISUAL]
        for released in (None, (), ("layer4",), ("layer4", "layer3_tail"))
    )
    assert not torch.equal(exact, kept[0])
    torch.testing.assert_close(exact, kept[0], atol=2e-3, rtol=0)
    assert all(torch.equal(kept[0], other) for other in kept[1:]), "wherever the kept maps end"


def test_padding_and_missing_sound_reach_the_network_as_such(
    make_store: Callable[..., Path], tmp_path: Path
) -> None:
    store = make_store(people=1, trials=1, validation=1, frames=20)
    facts = store / "train" / "p0-0" / "trial.json"
    facts.write_text(facts.read_text().replace('"has_sound":true', '"has_sound":false'))
    run = begin(tmp_path / "run", store, write_trunk(tmp_path / "t.safetensors"))
    trial = run.store.trial("p0-0")
    inputs = TrainingInputs(run.store, [trial], run.pretrained, run.options, run.folder.cache, run.store_hash)
    (window,) = inputs.windows(["p0-0"], run.options)
    batch = inputs.batch([window], np.random.default_rng(0))
    assert batch.labels.shape == (1, 30, 2)
    assert bool(torch.isnan(batch.labels[0, 20:]).all())
    assert batch.available[0, 0].tolist() == [True, False, False]
    result = train_fold(run, 0, nothing, tensorboard=False)
    assert result["finished"]


def test_masked_windows_are_labelled_as_who_is_told_of_the_rest_would(
    make_store: Callable[..., Path], tmp_path: Path
) -> None:
    store = make_store(people=1, trials=1, validation=1, frames=30)
    by_set = np.tile(np.arange(8, dtype=np.float32)[None, :, None] / 8, (30, 1, 2))
    write_rows(store / "train" / "p0-0" / "partial_labels.npy", by_set)
    run = begin(tmp_path / "run", store, write_trunk(tmp_path / "t.safetensors"), options(mask_share=1.0))
    trial = run.store.trial("p0-0")
    inputs = TrainingInputs(run.store, [trial], run.pretrained, run.options, run.folder.cache, run.store_hash)
    (window,) = inputs.windows(["p0-0"], run.options)
    random = np.random.default_rng(0)
    seen = set()
    for _ in range(20):
        batch = inputs.batch([window], random)
        told = batch.available[0].numpy() @ np.array([4, 2, 1])
        assert np.allclose(batch.labels[0].numpy(), told[:, None] / 8)
        seen |= set(told.tolist())
    assert seen == {1, 2, 3, 4, 5, 6, 7}


def test_windows_without_a_label_are_left_out(
    make_store: Callable[..., Path], tmp_path: Path, tiny_trunk: Path
) -> None:
    store = make_store(people=2, trials=1)
    write_trial(store, "mute", "train", "m", labelled=False, frames=60)
    run = begin(tmp_path / "run", store, tiny_trunk)
    inputs = TrainingInputs(
        run.store, run.store.trials(), run.pretrained, run.options, run.folder.cache, run.store_hash
    )
    assert inputs.windows(["mute"], run.options) == []
    assert inputs.windows(["p0-0"], run.options)


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


def test_what_does_not_fit_is_refused_by_name(
    tmp_path: Path, make_store: Callable[..., Path], tiny_store: Path, tiny_trunk: Path
) -> None:
    paper = options(preset="paper", cache_trunk=0)
    with pytest.raises(UserError, match="word vectors 48 wide, the network wants 768"):
        train_fold(begin(tmp_path / "a", tiny_store, None, paper), 0, nothing)
    deaf = options(preset="paper", cache_trunk=0, modalities=(Modality.VISUAL, Modality.AUDIO))
    with pytest.raises(UserError, match=r"no audio embeddings.*models-pull vggish"):
        train_fold(begin(tmp_path / "b", tiny_store, None, deaf), 0, nothing)
    narrow = make_store(audio_width=64, people=1, trials=1)
    with pytest.raises(UserError, match="audio embeddings 64 wide, the network wants 128"):
        train_fold(begin(tmp_path / "c", narrow, None, deaf), 0, nothing)
    with pytest.raises(UserError, match=r"offline-pretrain and give --trunk"):
        begin(tmp_path / "d", tiny_store, None)
    with pytest.raises(UserError, match="another backbone than this preset's"):
        begin(tmp_path / "e", tiny_store, tiny_trunk, paper)


def test_features_that_are_not_finite_are_refused_by_name(
    make_store: Callable[..., Path], tmp_path: Path
) -> None:
    store = make_store(people=1, trials=1, frames=33)
    words = np.load(store / "train" / "p0-0" / "language.npy")
    words[7, 3] = np.inf
    np.save(store / "train" / "p0-0" / "language.npy", words)
    run = begin(tmp_path / "run", store, None, options(modalities=(Modality.LANGUAGE,)))
    with pytest.raises(UserError, match="'p0-0' has language embeddings that are not finite"):
        train_fold(run, 0, nothing, tensorboard=False)


def test_a_trunk_of_other_crops_is_refused_by_name(
    tmp_path: Path, tiny_store: Path, tiny_trunk: Path
) -> None:
    manifest = tmp_path / "store" / "store.json"
    manifest.parent.mkdir()
    manifest.write_text((tiny_store / "store.json").read_text().replace('"haar"', '"yunet"'))
    for partition in ("train", "validation"):
        (manifest.parent / partition).symlink_to(tiny_store / partition)
    with pytest.raises(UserError, match=r"detector is yunet here, haar there"):
        begin(tmp_path / "run", manifest.parent, tiny_trunk)


class TestSplits:
    def test_a_start_that_failed_leaves_no_split_behind(
        self, tmp_path: Path, make_store: Callable[..., Path], tiny_trunk: Path
    ) -> None:
        """Trials that came to the store meanwhile belong to the folds."""
        store = make_store(people=3, trials=1)
        with pytest.raises(UserError, match="offline-pretrain"):
            begin(tmp_path / "run", store, None)
        shutil.copytree(store / "train" / "p0-0", store / "train" / "new")
        facts = json.loads((store / "train" / "new" / "trial.json").read_text())
        (store / "train" / "new" / "trial.json").write_text(
            json.dumps(facts | {"name": "new", "subject": "new"})
        )
        assert "new" in begin(tmp_path / "run", store, tiny_trunk).split.trials

    def test_trials_that_a_given_split_does_not_know_are_named(
        self, tmp_path: Path, tiny_store: Path, tiny_trunk: Path
    ) -> None:
        whole = split_folds(Store.open(tiny_store).trials())
        (left_out, *rest), *others = whole.parts
        assert rest or others
        parts = tuple(part for part in (tuple(rest), *others) if part)
        write_folds(tmp_path / "folds.json", FoldSplit(parts=parts, validation=whole.validation))
        _, notes = prepare_run(
            RunFolder(tmp_path / "run"),
            Store.open(tiny_store),
            options(),
            trunk=tiny_trunk,
            split=tmp_path / "folds.json",
            parts=5,
            resume=False,
        )
        assert any("1 trials are in no fold" in note and left_out in note for note in notes)

    def test_other_parts_than_a_run_was_begun_with_are_refused(
        self, tmp_path: Path, tiny_store: Path, tiny_trunk: Path
    ) -> None:
        begin(tmp_path / "run", tiny_store, tiny_trunk)
        with pytest.raises(UserError, match="--parts has changed"):
            prepare_run(
                RunFolder(tmp_path / "run"),
                Store.open(tiny_store),
                options(),
                trunk=tiny_trunk,
                split=None,
                parts=2,
                resume=True,
            )


def test_without_a_recogniser_the_language_branch_is_masked_as_in_prediction(
    tmp_path: Path, tiny_store: Path, tiny_trunk: Path
) -> None:
    store = tmp_path / "store"
    store.mkdir()
    manifest = json.loads((tiny_store / "store.json").read_text())
    manifest["recipe"]["recogniser"] = None
    (store / "store.json").write_text(json.dumps(manifest))
    for partition in ("train", "validation"):
        (store / partition).symlink_to(tiny_store / partition)
    run, notes = prepare_run(
        RunFolder(tmp_path / "run"),
        Store.open(store),
        options(),
        trunk=tiny_trunk,
        split=None,
        parts=5,
        resume=False,
    )
    assert any("no words" in note and "--modalities visual,audio" in note for note in notes)
    trial = run.store.trials("train")[0]
    inputs = TrainingInputs(
        run.store, [trial], run.pretrained, run.options, tmp_path / "cache", run.store_hash
    )
    given = inputs.embeddings(EmotionNetwork(run.options.network).eval(), trial).available
    masked = dict(zip(run.options.network.modalities, given[0, 0].tolist(), strict=True))
    assert masked == {Modality.VISUAL: True, Modality.AUDIO: True, Modality.LANGUAGE: False}


def test_a_trunk_without_an_audio_encoder_is_refused_by_name(
    tmp_path: Path, tiny_store: Path, tiny_trunk: Path
) -> None:
    pretrained = load_pretrained(tiny_trunk, options().network, 0)
    deaf = tmp_path / "deaf.safetensors"
    save_pretrained(deaf, replace(pretrained, audio_encoder=None))
    with pytest.raises(UserError, match=r"has no audio encoder.*--parts visual,audio"):
        begin(tmp_path / "run", tiny_store, deaf)
    begin(tmp_path / "run", tiny_store, deaf, options(modalities=(Modality.VISUAL, Modality.LANGUAGE)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fold", "9"], "there is no fold 9"),
        (["--fold", "first"], "--fold is a number or all"),
        (["--window", "10"], "a hop of 200 leaves frames between windows of 10"),
        (["--batch", "0"], "--batch"),
        (["--preset", "huge"], "unknown preset 'huge'"),
        (["--device", "tpu"], "--device is auto"),
        (["--targets", "joy"], "--targets"),
        (["--release", "stem"], "layer4 and layer3_tail"),
        (["--trunk", "nowhere.safetensors"], "nowhere.safetensors does not exist"),
    ],
)
def test_bad_options_get_one_line(
    tmp_path: Path,
    tiny_store: Path,
    tiny_trunk: Path,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from offline.commands.train import command

    monkeypatch.setattr(
        sys,
        "argv",
        [
            "offline-train",
            str(tiny_store),
            "--run",
            str(tmp_path / "run"),
            "--preset",
            "compact",
            "--trunk",
            str(tiny_trunk),
            *arguments,
        ],
    )
    with pytest.raises(SystemExit) as ended:
        command()
    assert ended.value.code == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1


def test_an_empty_store_gets_one_line(tmp_path: Path, tiny_store: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "store.json").write_text((tiny_store / "store.json").read_text())
    with pytest.raises(UserError, match="no trials"):
        begin(tmp_path / "run", empty, None, options(preset="paper", cache_trunk=0))


@pytest.mark.slow
def test_the_command_trains_all_folds_side_by_side_and_skips_the_finished(
    tmp_path: Path, tiny_store: Path, tiny_trunk: Path
) -> None:
    run = tmp_path / "run"
    arguments = [
        tiny_store,
        "--run",
        run,
        "--preset",
        "compact",
        "--trunk",
        tiny_trunk,
        "--epochs",
        1,
        "--lr",
        "3e-3",
    ]
    arguments += [
        "--warm-up",
        0,
        "--window",
        30,
        "--hop",
        20,
        "--cache-trunk",
        1,
        "--workers",
        2,
        "--threads",
        1,
    ]
    done = command(*arguments, "--fold", "all")
    assert done.returncode == 0, done.stderr
    results = [json.loads((run / f"fold-{k}" / "result.json").read_text()) for k in range(6)]
    assert all(r["finished"] for r in results)
    assert not (run / "cache").exists()
    before = (run / "fold-3" / "best.safetensors").stat().st_mtime_ns
    again = command(*arguments, "--fold", "all")
    assert again.returncode == 2
    assert "--resume" in again.stderr
    again = command(*arguments, "--fold", "all", "--resume")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("finished (epochs)") == 6
    assert (run / "fold-3" / "best.safetensors").stat().st_mtime_ns == before


@pytest.mark.slow
def test_the_paper_preset_runs_in_full_size(tmp_path: Path, make_store: Callable[..., Path]) -> None:
    store = make_store(people=1, trials=1, validation=1, frames=8, language_width=768, audio_width=128)
    done = command(
        store, "--run", tmp_path / "run", "--fold", 0, "--preset", "paper", "--max-steps", 3, "--threads", 1
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "run" / "fold-0" / "result.json").read_text())
    assert result["stopped"] == "max steps"
    network = EmotionNetwork(TrainOptions().network)
    network.load_state_dict(load_file(tmp_path / "run" / "fold-0" / "best.safetensors"))


def test_plain_lines_say_what_happens(
    tiny_store: Path, tiny_trunk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = begin(tmp_path / "run", tiny_store, tiny_trunk, options(max_steps=2))
    train_fold(run, 0, TrainingLines(), tensorboard=False)
    lines = capsys.readouterr().out.splitlines()
    assert "windows, at most 2 epochs" in lines[0]
    assert "fold 0: epoch 1/2, phase 0, lr 3.0e-03, loss" in lines[1]
    assert "fold 0: finished (max steps)" in lines[-1]
