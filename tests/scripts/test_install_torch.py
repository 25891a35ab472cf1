"""Where PyTorch comes from: one short probe, pip's own configuration, and what AFFECT_TORCH names."""

from __future__ import annotations

import base64
import functools
import hashlib
import http.server
import os
import socket
import subprocess
import sys
import threading
import time
import venv
import zipfile
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from scripts import install_torch

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = Path(install_torch.__file__)


def write_wheel(folder: Path, version: str) -> Path:
    """A wheel of a `torch` that only knows its version, in a folder laid out as an index has it."""
    path = folder / "torch" / f"torch-{version}-py3-none-any.whl"
    path.parent.mkdir(parents=True, exist_ok=True)
    info = f"torch-{version}.dist-info"
    files = {
        "torch.py": f"__version__ = '{version}'\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = f"{info}/RECORD,,\n"
    for name, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{name},sha256={digest},{len(text)}\n"
    with zipfile.ZipFile(path, "w") as zipped:
        for name, text in {**files, f"{info}/RECORD": record}.items():
            zipped.writestr(name, text)
    return path


@pytest.fixture
def python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Python that has pip, with no configuration but what a test gives, and nothing else."""
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    folder = tmp_path / "venv"
    venv.create(folder, symlinks=True)
    borrowed = tmp_path / "borrowed"
    borrowed.mkdir()
    (borrowed / "pip").symlink_to(Path(str(distribution("pip").locate_file("pip"))))
    (site,) = (folder / "lib").glob("python*/site-packages")
    (site / "borrowed.pth").write_text(f"{borrowed}\n")
    return folder / "bin" / "python"


@pytest.fixture
def bare(python: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`install` works for the bare Python, on Linux, with no index but what a test gives."""
    monkeypatch.setattr(install_torch, "is_installed", lambda requirement: False)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    return python


@pytest.fixture
def index(tmp_path: Path) -> Iterator[str]:
    """An index on this machine that has PyTorch 99.0+cpu."""
    write_wheel(tmp_path / "index", "99.0+cpu")
    handler = functools.partial(QuietHandler, directory=str(tmp_path / "index"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


def installed_version(python: Path) -> str:
    command = [str(python), "-c", "import torch; print(torch.__version__)"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_the_requirement_is_a_lower_bound_that_can_be_compared() -> None:
    assert install_torch.read_requirement().startswith("torch>=2.")
    assert "," not in install_torch.read_requirement()


@pytest.mark.parametrize(("installed", "enough"), [("2.13.0+cpu", True), ("2.9.1", False), ("3.0", True)])
def test_what_is_installed_is_left_where_it_is_new_enough(
    installed: str, enough: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install_torch, "version", lambda name: installed)
    assert install_torch.is_installed("torch>=2.11") is enough


class TestProbe:
    def test_an_index_that_lists_pytorch_answers(self, index: str) -> None:
        assert install_torch.answers(index)

    def test_one_that_lists_none_does_not(self, index: str) -> None:
        assert not install_torch.answers(f"{index}/elsewhere")

    def test_nobody_there_is_no_at_once(self) -> None:
        began_s = time.monotonic()
        assert not install_torch.answers("http://127.0.0.1:9")
        assert time.monotonic() - began_s < 2

    def test_one_that_hangs_is_given_up(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            began_s = time.monotonic()
            assert not install_torch.answers(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.5)
            assert time.monotonic() - began_s < 2


class TestCpu:
    def test_the_cpu_index_is_asked_for_pytorch_alone(
        self, bare: Path, index: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(install_torch, "CPU_INDEX", index)
        assert install_torch.install("cpu")
        assert installed_version(bare) == "99.0+cpu"

    def test_without_it_a_wheel_that_pip_is_configured_with_comes_before_the_ordinary_index(
        self, bare: Path, index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(install_torch, "answers", lambda index: False)
        monkeypatch.setenv("PIP_INDEX_URL", index)
        monkeypatch.setenv("PIP_FIND_LINKS", str(write_wheel(tmp_path / "wheels", "98.0+cpu").parent))
        assert install_torch.install("cpu")
        assert installed_version(bare) == "98.0+cpu"

    def test_without_either_the_ordinary_index_is_taken_and_it_is_said_what_that_means(
        self, bare: Path, index: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(install_torch, "answers", lambda index: False)
        monkeypatch.setenv("PIP_INDEX_URL", index)
        assert install_torch.install("cpu")
        assert installed_version(bare) == "99.0+cpu"
        said = capsys.readouterr().err
        assert "CUDA" in said
        assert "AFFECT_TORCH=FOLDER" in said
        assert said.count("\n") == 1

    def test_elsewhere_than_on_linux_nobody_is_probed(
        self, bare: Path, index: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys, "platform", "darwin")
        monkeypatch.setattr(install_torch, "answers", lambda index: pytest.fail("probed"))
        monkeypatch.setenv("PIP_INDEX_URL", index)
        assert install_torch.install("cpu")
        assert installed_version(bare) == "99.0+cpu"


class TestNamed:
    def test_an_index(self, bare: Path, index: str) -> None:
        assert install_torch.install(index)
        assert installed_version(bare) == "99.0+cpu"

    def test_cuda_is_the_ordinary_index(
        self, bare: Path, index: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(install_torch, "answers", lambda index: pytest.fail("probed"))
        monkeypatch.setenv("PIP_INDEX_URL", index)
        assert install_torch.install("cuda")
        assert installed_version(bare) == "99.0+cpu"

    def test_a_folder_of_wheels_by_the_script_itself(
        self, python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AFFECT_TORCH", str(write_wheel(tmp_path / "wheels", "97.0").parent))
        subprocess.run([python, SCRIPT], check=True)
        assert installed_version(python) == "97.0"
        monkeypatch.setenv("AFFECT_TORCH", "/nowhere")
        subprocess.run([python, SCRIPT], check=True)  # it is there already

    def test_what_is_neither_is_said_and_fails(self, python: Path) -> None:
        ran = subprocess.run(
            [python, SCRIPT], env={"AFFECT_TORCH": "cpuu"}, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 1
        assert "AFFECT_TORCH is 'cpuu', no folder here: give cpu, cuda" in ran.stderr


def test_make_installs_pytorch_before_anything_asks_for_it() -> None:
    root = SCRIPT.parent.parent
    rules = subprocess.run(
        ["make", "--dry-run", "--always-make", "demo"], cwd=root, capture_output=True, text=True, check=True
    ).stdout
    assert rules.index("scripts/install_torch.py") < rules.index("--editable .") < rules.index("--demo")
    assert "index-url" not in rules, "an extra index would be asked for every package"
