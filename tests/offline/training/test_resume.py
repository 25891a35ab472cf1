"""Never lost: whenever training is killed, resuming gives what it would have given, bit for bit."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from models.errors import UserError
from offline import files
from offline.data.store import Store
from offline.files import write_json
from offline.tensors import load_tensors, save_tensors
from offline.training.checkpoint import optimizer_tensors, random_tensors, restore_optimizer, restore_random
from offline.training.events import StepDone, TrainingEvent
from offline.training.options import TrainOptions
from offline.training.run import Run, RunFolder, prepare_run
from offline.training.schedule import ScheduleOptions
from offline.training.train import train_fold

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Rates so high that epochs differ in their worth, and a group is released on the way.
OPTIONS = TrainOptions(
    preset="compact",
    schedule=ScheduleOptions(
        learning_rate=2e-2, least_learning_rate=1e-2, warm_up=0, patience=0, epochs=4, early_stopping=9
    ),
    window=30,
    hop=30,
    cache_trunk=2,
)


class Killed(BaseException):
    """Stands for a kill inside the process: nothing catches it."""


def begin(folder: Path, store: Path, trunk: Path, options: TrainOptions = OPTIONS) -> Run:
    return prepare_run(
        RunFolder(folder), Store.open(store), options, trunk=trunk, split=None, parts=5, resume=True
    )[0]


def nothing(event: TrainingEvent) -> None:
    pass


def outcome(run: Path) -> tuple[dict[str, torch.Tensor], list[Any], dict[str, Any]]:
    """Weights, history and result of fold 0, times left out."""
    fold = run / "fold-0"
    lines = [json.loads(line) for line in (fold / "history.jsonl").read_text().splitlines()]
    result = json.loads((fold / "result.json").read_text())
    for record in (*lines, result):
        del record["seconds"]
    return load_file(fold / "best.safetensors"), lines, result


def assert_same(run: Path, reference: Path) -> None:
    (weights, history, result), (wanted, lines, final) = outcome(run), outcome(reference)
    assert history == lines
    assert result == final
    assert weights.keys() == wanted.keys()
    assert all(torch.equal(weights[k], wanted[k]) for k in wanted)
    mine, theirs = (load_tensors(p / "fold-0" / "checkpoint.safetensors")[0] for p in (run, reference))
    assert all(torch.equal(mine[k], theirs[k]) for k in theirs)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, tiny_store: Path, tiny_trunk: Path) -> Path:
    """A run that nothing happened to."""
    folder = tmp_path_factory.mktemp("reference") / "run"
    train_fold(begin(folder, tiny_store, tiny_trunk), 0, nothing, tensorboard=False)
    return folder


def test_the_reference_is_worth_comparing_with(uninterrupted: Path) -> None:
    """Some epoch is a best, some is not, and a group was released."""
    _, lines, result = outcome(uninterrupted)
    assert {line["best"] for line in lines} == {True, False}
    assert result["released"]


def test_the_same_seed_gives_the_same_weights_and_another_does_not(
    tmp_path: Path, uninterrupted: Path, tiny_store: Path, tiny_trunk: Path
) -> None:
    other = begin(tmp_path / "run", tiny_store, tiny_trunk, OPTIONS.model_copy(update={"seed": 1}))
    train_fold(other, 0, nothing, tensorboard=False)
    weights, wanted = outcome(tmp_path / "run")[0], outcome(uninterrupted)[0]
    assert not torch.equal(weights["head.weight"], wanted["head.weight"])


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_around_any_write_it_resumes_to_the_same_weights(
    moment: str,
    tmp_path: Path,
    uninterrupted: Path,
    tiny_store: Path,
    tiny_trunk: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed again and again, each time around another file's renaming: before it, or just after."""
    real, count = os.replace, 0
    # Each life gets a few renames further than the last: every kind of file is hit at some time.
    lives = iter([1, 3, 43, 1, 2, 3, 4, *[10_000] * 9])
    budget = next(lives)

    def replace(source: Any, target: Any) -> None:
        nonlocal count
        count += 1
        if count >= budget and moment == "before":
            raise Killed
        real(source, target)
        if count >= budget:
            raise Killed

    monkeypatch.setattr(files.os, "replace", replace)  # type: ignore[attr-defined]
    kills = 0
    while True:
        try:
            train_fold(begin(tmp_path / "run", tiny_store, tiny_trunk), 0, nothing, tensorboard=False)
            break
        except Killed:
            kills, count, budget = kills + 1, 0, next(lives)
    assert kills >= 5
    assert_same(tmp_path / "run", uninterrupted)


def test_killed_within_an_epoch_it_resumes_to_the_same_weights(
    tmp_path: Path, uninterrupted: Path, tiny_store: Path, tiny_trunk: Path
) -> None:
    lives = iter([3, 17, 14, 20, 10_000])
    history = tmp_path / "run" / "fold-0" / "history.jsonl"

    def live(steps: int) -> Callable[[TrainingEvent], None]:
        def report(event: TrainingEvent) -> None:
            nonlocal steps
            if isinstance(event, StepDone):
                steps -= 1
                done = history.read_text().count("\n") if history.exists() else 0
                assert event.epoch == done + 1, "it says which epoch this is, whatever process began the run"
            if steps < 0:
                raise Killed

        return report

    for steps in lives:
        try:
            train_fold(begin(tmp_path / "run", tiny_store, tiny_trunk), 0, live(steps), tensorboard=False)
        except Killed:
            # What else a process does with random numbers must not matter.
            torch.manual_seed(99)
            random.seed(99)
    assert_same(tmp_path / "run", uninterrupted)


@pytest.mark.slow
def test_killed_by_the_system_at_random_moments_it_resumes_to_the_same_weights(
    tmp_path: Path, tiny_store: Path, tiny_trunk: Path
) -> None:
    """SIGKILL to `offline-train`, real processes and real time."""
    schedule = OPTIONS.schedule

    def start(run: Path) -> subprocess.Popen[str]:
        arguments = [
            tiny_store,
            "--run",
            run,
            "--fold",
            0,
            "--preset",
            "compact",
            "--trunk",
            tiny_trunk,
            "--resume",
        ]
        arguments += ["--lr", schedule.learning_rate, "--least-learning-rate", schedule.least_learning_rate]
        arguments += [
            "--warm-up",
            0,
            "--patience",
            0,
            "--epochs",
            8,
            "--early-stopping",
            20,
            "--window",
            30,
            "--hop",
            10,
        ]
        arguments += ["--threads", 1, "--device", "cpu", "--cache-trunk", 2]
        code = "from offline.commands.train import command; command()"
        return subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    reference = start(tmp_path / "reference")
    _, errors = reference.communicate(timeout=300)
    assert reference.returncode == 0, errors
    kills, chance = 0, random.Random(5)
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        process = start(tmp_path / "run")
        if kills < 3:
            # Killed a while after its first sign of life in this round.
            assert process.stdout is not None
            for line in process.stdout:
                if "epoch" in line:
                    break
            time.sleep(chance.uniform(0, 0.8))
            process.kill()
            kills += 1
        _, errors = process.communicate(timeout=300)
        if process.returncode == 0:
            break
        assert process.returncode == -9, errors
    assert_same(tmp_path / "run", tmp_path / "reference")


def test_other_options_are_refused_by_name(tmp_path: Path, tiny_store: Path, tiny_trunk: Path) -> None:
    begin(tmp_path / "run", tiny_store, tiny_trunk)
    slower = OPTIONS.schedule.model_copy(update={"learning_rate": 1e-4})
    with pytest.raises(UserError, match=r"learning-rate 0.02, not 0.0001: give the same options"):
        begin(tmp_path / "run", tiny_store, tiny_trunk, OPTIONS.model_copy(update={"schedule": slower}))


def test_another_trunk_is_refused(tmp_path: Path, tiny_store: Path, tiny_trunk: Path) -> None:
    begin(tmp_path / "run", tiny_store, tiny_trunk)
    tensors, state = load_tensors(tiny_trunk)
    save_tensors(
        tmp_path / "other.safetensors", {k: v + v.is_floating_point() for k, v in tensors.items()}, state
    )
    with pytest.raises(UserError, match=r"not the trunk that .* was begun with"):
        begin(tmp_path / "run", tiny_store, tmp_path / "other.safetensors")


def test_an_unfinished_run_is_not_begun_anew_by_mistake(
    tmp_path: Path, tiny_store: Path, tiny_trunk: Path
) -> None:
    begin(tmp_path / "run", tiny_store, tiny_trunk)
    with pytest.raises(UserError, match="--resume"):
        prepare_run(
            RunFolder(tmp_path / "run"),
            Store.open(tiny_store),
            OPTIONS,
            trunk=None,
            split=None,
            parts=5,
            resume=False,
        )


@pytest.mark.parametrize("damage", ["truncated", "garbage", "foreign", "empty"])
def test_a_damaged_checkpoint_gets_one_line(
    damage: str, tmp_path: Path, tiny_store: Path, tiny_trunk: Path, uninterrupted: Path
) -> None:
    run = begin(tmp_path / "run", tiny_store, tiny_trunk)
    path = run.folder.fold(0).checkpoint
    path.parent.mkdir(parents=True)
    sound = (uninterrupted / "fold-0" / "checkpoint.safetensors").read_bytes()
    if damage == "foreign":
        save_file({"a": torch.zeros(1)}, path, {"state": "{}"})
    else:
        path.write_bytes(
            {"truncated": sound[: len(sound) // 2], "garbage": b"\x80" * 999, "empty": b""}[damage]
        )
    with pytest.raises(UserError, match=r"checkpoint\.safetensors is (damaged|no checkpoint)") as refused:
        train_fold(run, 0, nothing, tensorboard=False)
    assert "\n" not in str(refused.value)
    assert path.exists()


def test_random_states_go_on_where_they_were() -> None:
    loader = np.random.default_rng(3)

    def draw() -> list[Any]:
        return [
            torch.rand(3).tolist(),
            random.random(),
            np.random.rand(),
            np.random.normal(),
            loader.random(),
        ]

    draw()
    tensors, rest = random_tensors(loader)
    expected = draw()
    draw()
    restore_random(loader, tensors, json.loads(json.dumps(rest)))
    assert draw() == expected


def test_an_optimiser_goes_on_where_it_was() -> None:
    def step(weight: torch.nn.Parameter, optimizer: torch.optim.Adam) -> None:
        optimizer.zero_grad()
        (weight**3).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    weight = torch.nn.Parameter(torch.randn(4))
    optimizer = torch.optim.Adam([weight], lr=0.1, weight_decay=1e-3)
    step(weight, optimizer)
    tensors, rest = optimizer_tensors(optimizer)
    copy = torch.nn.Parameter(weight.detach().clone())
    tensors = {k: v.clone() for k, v in tensors.items()}
    step(weight, optimizer)
    again = torch.optim.Adam([copy], lr=9.0)
    restore_optimizer(again, tensors, json.loads(json.dumps(rest)))
    step(copy, again)
    assert torch.equal(weight, copy)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "result.json"
    write_json(path, {"epoch": 1})
    monkeypatch.setattr(
        files.os,  # type: ignore[attr-defined]
        "fsync",
        lambda descriptor: (_ for _ in ()).throw(OSError(28, "No space left")),
    )
    with pytest.raises(UserError, match="No space left"):
        write_json(path, {"epoch": 2})
    assert json.loads(path.read_text()) == {"epoch": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


KILLED_WHILE_IT_WRITES = """
import os, pathlib, signal, sys
from offline.files import replacing
with replacing(pathlib.Path(sys.argv[1])) as file:
    file.write(b"half of it")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_was_writing_is_cleared_when_training_goes_on(
    tmp_path: Path, tiny_store: Path, tiny_trunk: Path
) -> None:
    brief = OPTIONS.model_copy(update={"max_steps": 1})
    run = begin(tmp_path / "run", tiny_store, tiny_trunk, brief)
    fold = run.folder.fold(0)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_WHILE_IT_WRITES, str(fold.checkpoint)], check=False, timeout=120
    )
    assert killed.returncode == -signal.SIGKILL
    (left,) = fold.path.glob(".checkpoint.safetensors.*.part")
    dead = left.name.split(".")[-2]
    deep = run.folder.cache / "trunk-0" / "v-0"
    deep.mkdir(parents=True)
    stale = [left, run.folder.path / f"..trunk.compare.{dead}.part", deep / f".4-4.npy.{dead}.part"]
    # Another process that trains other folds of this run, and what is no such file at all.
    kept = [run.folder.path / f".run.json.{os.getppid()}.part", deep / f".4-2.npy.{os.getppid()}.part"]
    kept += [fold.path / "notes.part", fold.path / f"notes.{dead}.part"]
    for path in (*stale, *kept):
        path.write_bytes(b"half of it")
    train_fold(run, 0, nothing, tensorboard=False)
    assert [path for path in stale if path.exists()] == []
    assert [path for path in kept if not path.exists()] == []


def test_nothing_in_a_run_is_a_pickle(uninterrupted: Path) -> None:
    for path in uninterrupted.rglob("*"):
        if path.is_file():
            assert path.suffix in {".json", ".jsonl", ".safetensors", ".npy", ""}, path
            if path.suffix == ".npy":
                np.load(path, allow_pickle=False)
