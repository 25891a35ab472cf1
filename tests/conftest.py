"""What every test may use: the fixtures folder, commands, and quiet threads."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.commands import Ended, RunCommand, run_in_process
from tests.wheel import Installed, build_wheel, install_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator

# A shell that starts the suite in the background has it ignore Ctrl-C, and every process that tests start with it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Machines are shared and noisy: a slow example is no failure.
settings.register_profile("affectstream", deadline=None)
settings.load_profile("affectstream")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def fixtures() -> Path:
    """The folder of real recordings and real parts; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("AFFECT_FIXTURES", REPOSITORY.parent / "shared" / "fixtures"))
    if not folder.is_dir():
        pytest.skip(f"no fixtures at {folder}: set AFFECT_FIXTURES to their folder")
    return folder


@pytest.fixture(scope="session")
def people() -> Path:
    """The folder of real people's faces, voices and words; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("AFFECT_PEOPLE", REPOSITORY.parent / "shared" / "people"))
    if not folder.is_dir():
        pytest.skip(f"no people's data at {folder}: set AFFECT_PEOPLE to its folder")
    return folder


@pytest.fixture
def run_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> RunCommand:
    """Runs a command, given by its name, in this process."""

    def run(name: str, *arguments: object) -> Ended:
        return run_in_process(monkeypatch, capsys, name, *arguments)

    return run


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as pip builds it."""
    return build_wheel(tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel, installed away from the checkout."""
    return install_wheel(wheel, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What accelerators build goes to the run's own folder, in this process and in those it starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AFFECT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_configuration() -> Iterator[None]:
    """Commands read no options of whoever runs the tests, in this process and in those it starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AFFECT_CONFIG", "none")
        yield


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """One torch thread per test process: the suite runs on all cores at once."""
    import torch

    torch.set_num_threads(1)
