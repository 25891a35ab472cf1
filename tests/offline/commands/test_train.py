"""`offline-train`: what it refuses before it writes anything, and what it does where folds fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from models.console import run as run_app
from offline.commands.train import app
from offline.training import train
from offline.training.events import FoldError

if TYPE_CHECKING:
    from pathlib import Path

    from offline.training.run import Run

Command = Callable[..., str]


@pytest.fixture
def command(
    tiny_store: Path,
    tiny_trunk: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Command:
    """Runs `offline-train` on the tiny store in this process; gives what it printed, or its one line of refusal."""

    def call(*arguments: object) -> str:
        given = [tiny_store, "--run", tmp_path / "run", "--preset", "compact", "--trunk", tiny_trunk]
        monkeypatch.setattr("sys.argv", ["offline-train", *map(str, [*given, *arguments])])
        status: object = 0
        try:
            run_app(app)
        except SystemExit as ended:
            status = ended.code
        found = capsys.readouterr()
        if not status:
            return found.out
        assert status == 2
        assert found.err.count("\n") == 1, found.err
        return found.err

    return call


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
