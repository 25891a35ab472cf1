"""What the package says of itself holds: extras, bounds, names and licences; its wheel works on its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.offline.stores import write_store, write_trunk

if TYPE_CHECKING:
    from collections.abc import Callable

TOP_LEVEL = {"models", "stream", "offline", "affectstream"}
"""What the wheel may claim of the names that all packages share; a new one is added here and in `pyproject.toml`."""

REPOSITORY = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
FOLDERS = ("models", "stream", "offline", "affectstream", "benchmarks", "examples", "tests")


def named_extras() -> dict[str, str]:
    """Every extra that a source, a document or the Makefile names, and one place that does."""
    sources = [path for folder in FOLDERS for path in sorted((REPOSITORY / folder).rglob("*.py"))]
    documents = [*sorted(REPOSITORY.glob("*.md")), *sorted((REPOSITORY / "docs").glob("*.md"))]
    paths = [*sources, *documents, REPOSITORY / "Makefile", REPOSITORY / "pyproject.toml"]
    return {
        extra: str(path.relative_to(REPOSITORY))
        for path in paths
        for listed in re.findall(r"affectstream\[([\w, -]+)\]", path.read_text(encoding="utf-8"))
        for extra in re.split(r"\s*,\s*", listed)
    }


@pytest.mark.parametrize(("extra", "place"), sorted(named_extras().items()))
def test_every_extra_that_is_named_can_be_installed(extra: str, place: str) -> None:
    assert extra in PROJECT["optional-dependencies"], f"{place} names it"


def test_what_training_and_reports_ask_for_is_in_their_extra() -> None:
    listed = [re.split(r"[>=<]", line)[0] for line in PROJECT["optional-dependencies"]["train"]]
    assert {"matplotlib", "tensorboard"} <= set(listed)


def test_every_dependency_has_a_lower_bound_and_every_upper_one_a_reason() -> None:
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    tables = text.partition("\ndependencies = [\n")[2].partition("\n[project.scripts]")[0]
    requirements = [*PROJECT["dependencies"], *chain.from_iterable(PROJECT["optional-dependencies"].values())]
    assert requirements
    for requirement in requirements:
        if requirement.startswith("affectstream["):
            continue
        assert ">=" in requirement.partition(";")[0], f"no lower bound: {requirement}"
        if re.search(r"<|==|~=", requirement.partition(";")[0]):
            assert re.search(rf'"{re.escape(requirement)}",  # \w', tables), (
                f"no reason beside it: {requirement}"
            )


def test_no_command_line_imports_before_it_needs() -> None:
    heavy = {"vosk", "amqtt", "cv2", "torch", "transformers", "webrtcvad"}
    modules = sorted({line.partition(":")[0] for line in PROJECT["scripts"].values()})
    code = f"import {', '.join(modules)}, sys; print(*({heavy} & set(sys.modules)))"
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == []


def missing(folder: Path, name: str) -> dict[str, str]:
    """The environment of a process in which a package cannot be imported, as where it is not installed."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(f"raise ModuleNotFoundError(\"No module named '{name}'\")\n")
    return {**os.environ, "PYTHONPATH": str(folder)}


def stream_run(*arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    code = "from stream.commands.run import command; command()"
    options = ["--demo", "--pace", "fast", "--accelerator", "eager", "--view", "none", *arguments]
    command = [sys.executable, "-c", code, *options]
    return subprocess.run(command, env=env, cwd=REPOSITORY, capture_output=True, text=True, check=False)


def test_without_vosk_one_line_says_so(tmp_path: Path) -> None:
    ran = stream_run("--broker", "none", env=missing(tmp_path, "vosk"))
    assert ran.returncode == 2
    assert ran.stderr.endswith(
        "the package vosk cannot be loaded (No module named 'vosk'): pip install vosk, or give --recogniser none "
        "(`stream-doctor --camera none --bundle demo --broker none --recogniser vosk-tiny --accelerator eager` "
        "looks into it)\n"
    )
    assert ran.stderr.count("\n") == 1


def test_without_amqtt_one_line_says_so(tmp_path: Path) -> None:
    ran = stream_run("--recogniser", "none", env=missing(tmp_path, "amqtt"))
    assert ran.returncode == 2
    assert "the package amqtt, the embedded broker, cannot be loaded (No module named 'amqtt')" in ran.stderr
    assert "pip install amqtt, or name a broker: --broker mqtt://127.0.0.1:1883" in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_a_pytorch_without_onednn_has_no_native_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from models.accelerate.hardware import has_cpu_bfloat16

    class Unregistered:
        def __getattr__(self, name: str) -> object:
            raise AttributeError(f"'_OpNamespace' 'mkldnn' object has no attribute '{name}'")

    monkeypatch.setattr(torch.ops, "mkldnn", Unregistered())
    assert has_cpu_bfloat16() is False


def unneeded(module: str, folder: Path) -> None:
    """A folder of the user that has the name of one of our packages: it must not be imported in its place."""
    (folder / module).mkdir()
    (folder / module / "__init__.py").write_text("raise SystemExit('the folder of the user was imported')\n")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as pip builds it, of the files that git knows."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    )  # fmt: skip
    source = tmp_path_factory.mktemp("source")
    for name in listed.stdout.splitlines():
        if (REPOSITORY / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(REPOSITORY / name, source / name)
    made = tmp_path_factory.mktemp("dist")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(made),
        str(source),
    ]
    subprocess.run(command, check=True)
    (path,) = made.glob("affectstream-*.whl")
    return path


@pytest.fixture(scope="module")
def installed(
    wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a command of the installed wheel where folders are called as our packages are.

    The environment is new and has only the wheel; what the wheel needs is borrowed from this Python.
    """
    folder = tmp_path_factory.mktemp("wheel")
    venv.create(folder / "venv", symlinks=True)
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    borrowed = [path for path in sys.path if path.endswith("site-packages")]
    (site / "borrowed.pth").write_text("\n".join(borrowed))
    python = folder / "venv" / "bin" / "python"
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--ignore-installed", str(wheel)]
    subprocess.run([python, *install], check=True)
    home = folder / "home"
    home.mkdir()
    for name in TOP_LEVEL:
        unneeded(name, home)
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}

    def run(command: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        ran = subprocess.run(
            [python.parent / command, *map(str, arguments)],
            cwd=home, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        return ran

    found = subprocess.run(
        [python, "-P", "-c", "import models; print(models.__file__)"],
        cwd=home, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert Path(found.stdout).is_relative_to(site), "the checkout itself would be tested"
    return run


@pytest.mark.slow
class TestWheel:
    def test_it_claims_its_own_names_and_no_others(self, wheel: Path) -> None:
        with zipfile.ZipFile(wheel) as zipped:
            first = {name.partition("/")[0].removesuffix(".py") for name in zipped.namelist()}
        assert {name for name in first if not name.endswith(".dist-info")} == TOP_LEVEL

    def test_it_carries_what_it_needs_and_what_the_licence_asks(self, wheel: Path) -> None:
        with zipfile.ZipFile(wheel) as zipped:
            names = zipped.namelist()
            (path,) = [name for name in names if name.endswith(".dist-info/METADATA")]
            metadata = zipped.read(path).decode()
        assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
        assert "License-Expression: Apache-2.0" in metadata
        assert "Requires-Python: >=3.11" in metadata
        assert "Classifier: Programming Language :: Python :: 3.11" in metadata
        for folder in ("models/assets", "stream/assets", "stream/schemas"):
            shipped = {
                p.relative_to(REPOSITORY).as_posix() for p in (REPOSITORY / folder).rglob("*") if p.is_file()
            }
            assert {name for name in shipped if "__pycache__" not in name} <= set(names)
        assert {f"{name}/py.typed" for name in TOP_LEVEL} <= set(names)

    def test_it_plays_the_demo_and_trains_among_folders_of_its_own_names(
        self, wheel: Path, installed: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
    ) -> None:
        record = tmp_path / "record.jsonl"
        installed("stream-run", "--demo", "--pace", "fast", "--accelerator", "eager", "--view", "none",
                  "--record", record)  # fmt: skip
        last = json.loads(record.read_text().splitlines()[-1])
        assert {"valence", "arousal"} <= set(last)
        store, trunk = write_store(tmp_path / "store"), write_trunk(tmp_path / "trunk.safetensors")
        installed("offline-train", store, "--run", tmp_path / "run", "--preset", "compact", "--trunk", trunk,
                  "--fold", "0", "--max-steps", "1", "--window", "32", "--hop", "32")  # fmt: skip
        assert list((tmp_path / "run").rglob("*.safetensors"))

    @pytest.mark.parametrize("command", ["stream-run", "models-list", "offline-train"])
    def test_its_commands_start_among_folders_of_its_own_names(
        self, command: str, installed: Callable[..., subprocess.CompletedProcess[str]]
    ) -> None:
        assert installed(command, *(["--help"] if command != "models-list" else [])).stdout
