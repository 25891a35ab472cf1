"""`--device`: the same names everywhere, and a device that is not there is refused before anything is computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from models.errors import UserError
from offline.commands.devices import choose_device

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.commands import RunCommand


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes this machine one with so many GPUs, as far as torch says."""
    return lambda count: monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


def test_what_is_there_is_taken(gpus: Callable[[int], None]) -> None:
    gpus(0)
    assert [choose_device(c) for c in ("auto", "cpu")] == ["cpu", "cpu"]
    gpus(2)
    assert choose_device("auto") == "cuda"
    for choice in ("cpu", "cuda", "cuda:0", "cuda:1"):
        assert choose_device(choice) == choice


def test_what_is_not_there_is_refused_with_what_is(gpus: Callable[[int], None]) -> None:
    gpus(0)
    with pytest.raises(UserError, match=r"there is no CUDA device 0 here: give --device cpu$"):
        choose_device("cuda")
    gpus(2)
    with pytest.raises(UserError, match=r"no CUDA device 9 here: give --device cpu or cuda:0 or cuda:1$"):
        choose_device("cuda:9")


@pytest.mark.parametrize("choice", ["tpu", "cpu:0", "cuda:", "cuda:01", "cuda:-1", "cuda:²", "cuda0", ""])
def test_other_names_are_refused(choice: str, gpus: Callable[[int], None]) -> None:
    gpus(2)
    with pytest.raises(UserError, match="--device is auto, cpu, cuda or cuda:N, not"):
        choose_device(choice)


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("offline-train", ["--preset", "compact", "--run"]),
        ("offline-pretrain", ["--output"]),
        ("offline-predict", ["--partition", "train", "--out"]),
    ],
    ids=["offline-train", "offline-pretrain", "offline-predict"],
)
def test_every_command_says_so_in_one_line_and_writes_nothing(
    command: str,
    arguments: list[str],
    gpus: Callable[[int], None],
    tiny_store: Path,
    tmp_path: Path,
    run_command: RunCommand,
) -> None:
    gpus(1)
    bundle = ["demo"] if command == "offline-predict" else []
    given = [*bundle, tiny_store, *arguments, tmp_path / "out", "--device", "cuda:9"]
    ended = run_command(command, *given)
    assert ended.status == 2
    assert ended.err == f"{command}: there is no CUDA device 9 here: give --device cpu or cuda:0\n"
    assert list(tmp_path.iterdir()) == []
