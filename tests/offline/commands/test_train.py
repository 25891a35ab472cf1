"""`offline-train`: what it refuses before it writes anything, and what it does where folds fail."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from safetensors.torch import load_file

from models.networks.fold import EmotionNetwork
from offline.training import train
from offline.training.options import TrainOptions
from offline.training.run import Run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.commands import RunCommand
from collections.abc import Callable
from typing import TYPE_CHECKING

from offline.training.events import FoldError
from tests.commands import run_in_own_process

if TYPE_CHECKING:
    from pathlib import Path

    from offline.training.run import Run

Command = Callable[..., str]


@pytest.fixture
def command(tiny_store: Path, tiny_trunk: Path, tmp_path: Path, run_command: RunCommand) -> Command:
    """Runs `offline-train` on the tiny store in this process; gives what it printed, or its one line of refusal."""
    given = [tiny_store, "--run", tmp_path / "run", "--preset", "compact", "--trunk", tiny_trunk]
    return lambda *arguments: run_command("offline-train", *given, *arguments).said


@pytest.mark.parametrize("number", ["inf", "-inf", "nan", "1e999"])
@pytest.mark.parametrize("option", ["--learning-rate", "--least-learning-rate", "--factor", "--weight-decay"])
def test_a_number_that_is_not_finite_is_refused_by_its_option(
    option: str, number: str, command: Command, tmp_path: Path
) -> None:
    said = command(f"{option}={number}")
    assert said == f"offline-train: {option}: Input should be a finite number\n"
    assert not (tmp_path / "run").exists()


def test_a_fold_that_fails_does_not_keep_the_later_ones_from_being_trained(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []

    def train_fold(run: Run, index: int, report: object, *, tensorboard: bool) -> None:
        tried.append(index)
        if index in (0, 2):
            raise FoldError(f"fold {index}: the loss is nan in epoch 1: training has diverged")

    monkeypatch.setattr(train, "train_fold", train_fold)
    said = command("--fold", "all", "--workers", 1, "--parts", 3)
    assert tried == [0, 1, 2, 3]
    assert said == (
        "offline-train: 2 of 4 folds failed (0, 2), the first: fold 0: the loss is nan in epoch 1: training has "
        "diverged\n"
    )
    assert command("--fold", "2", "--parts", 3, "--resume").startswith(
        "offline-train: fold 2: the loss is nan"
    )


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
def test_bad_options_get_one_line(arguments: list[str], message: str, command: Command) -> None:
    said = command(*arguments)
    assert said.startswith("offline-train: ")
    assert message in said


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
    done = run_in_own_process("offline-train", *arguments, "--fold", "all")
    assert done.returncode == 0, done.stderr
    results = [json.loads((run / f"fold-{k}" / "result.json").read_text()) for k in range(6)]
    assert all(r["finished"] for r in results)
    assert not (run / "cache").exists()
    before = (run / "fold-3" / "best.safetensors").stat().st_mtime_ns
    again = run_in_own_process("offline-train", *arguments, "--fold", "all")
    assert again.returncode == 2
    assert "--resume" in again.stderr
    again = run_in_own_process("offline-train", *arguments, "--fold", "all", "--resume")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("finished (epochs)") == 6
    assert (run / "fold-3" / "best.safetensors").stat().st_mtime_ns == before


@pytest.mark.slow
def test_the_paper_preset_runs_in_full_size(tmp_path: Path, make_store: Callable[..., Path]) -> None:
    store = make_store(people=1, trials=1, validation=1, frames=8, language_width=768, audio_width=128)
    done = run_in_own_process(
        "offline-train",
        store,
        "--run",
        tmp_path / "run",
        "--fold",
        0,
        "--preset",
        "paper",
        "--max-steps",
        3,
        "--threads",
        1,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "run" / "fold-0" / "result.json").read_text())
    assert result["stopped"] == "max steps"
    network = EmotionNetwork(TrainOptions().network)
    network.load_state_dict(load_file(tmp_path / "run" / "fold-0" / "best.safetensors"))
