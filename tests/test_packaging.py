"""What the package says of itself holds: extras, bounds, names and licences; its wheel works on its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.offline.stores import write_store, write_trunk
from tests.wheel import TOP_LEVEL, write_package

if TYPE_CHECKING:
    from tests.wheel import Installed

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

    def test_it_plays_the_demo_and_trains_among_packages_of_its_own_names(
        self, installed: Installed, tmp_path: Path
    ) -> None:
        record = tmp_path / "record.jsonl"
        installed.run("stream-run", "--demo", "--pace", "fast", "--accelerator", "eager", "--view", "none",
                      "--record", record)  # fmt: skip
        last = json.loads(record.read_text().splitlines()[-1])
        assert {"valence", "arousal"} <= set(last)
        store, trunk = write_store(tmp_path / "store"), write_trunk(tmp_path / "trunk.safetensors")
        installed.run("offline-train", store, "--run", tmp_path / "run", "--preset", "compact", "--trunk", trunk,
                      "--fold", "0", "--max-steps", "1", "--window", "32", "--hop", "32")  # fmt: skip
        assert list((tmp_path / "run").rglob("*.safetensors"))

    def test_its_doctor_tries_all_that_a_live_run_needs_among_packages_of_its_own_names(
        self, installed: Installed
    ) -> None:
        ran = installed.run("stream-doctor", "--camera", "lavfi:testsrc2=s=320x240:r=30", "--microphone", "none",
                            "--bundle", "demo", "--recogniser", "vosk-tiny", "--accelerator", "eager",
                            "--seconds", "0.5", "--json")  # fmt: skip
        report = json.loads(ran.stdout)
        assert report["can_run"], report["verdict"]
        tried = {finding["subject"]: finding["state"] for finding in report["findings"]}
        assert tried["bundle demo"] == tried["recogniser"] == tried["broker embedded"] == "ok"
        assert tried["accelerator"] in ("ok", "warning"), "a busy machine is slow"

    @pytest.mark.parametrize("command", sorted(PROJECT["scripts"]))
    def test_its_commands_start_among_packages_of_its_own_names(
        self, command: str, installed: Installed
    ) -> None:
        assert installed.run(command, "--help").stdout

    @pytest.mark.parametrize("name", ["models", "stream"])
    def test_from_python_a_package_of_its_own_names_is_named_in_one_line(
        self, name: str, installed: Installed, tmp_path: Path
    ) -> None:
        """Python takes what lies beside a script first: nothing can be done but say so."""
        write_package(tmp_path / name)
        ran = installed.attempt("python", "-c", "import affectstream", folder=tmp_path)
        assert ran.returncode == 1
        assert ran.stderr.splitlines()[-1] == (
            f"ImportError: affectstream needs its own package `{name}`, but Python finds {tmp_path / name} first: "
            "rename that folder, or run from another one"
        )
