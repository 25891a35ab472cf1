"""The built wheel in an environment of its own, away from the checkout, among folders called as its packages are."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass, field
from pathlib import Path

TOP_LEVEL = frozenset({"models", "stream", "offline", "affectstream"})
"""What the wheel may claim of the names that all packages share; a new one is added here and in `pyproject.toml`."""

REPOSITORY = Path(__file__).resolve().parent.parent


def build_wheel(source: Path, made: Path) -> Path:
    """The wheel, built as pip builds it, of the files that git knows, copied to the folder `source`."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in listed.stdout.splitlines():
        if (REPOSITORY / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(REPOSITORY / name, source / name)
    options = ["--quiet", "--no-deps", "--wheel-dir", str(made)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(source)], check=True)
    (path,) = made.glob("affectstream-*.whl")
    return path


@dataclass(frozen=True)
class Installed:
    """The wheel, installed; `bin` has its commands and its Python.

    In `packages` lie importable packages that are called as ours are, and must not be imported in their place; in
    `project`, where scripts and notebooks are put, a user's ordinary folders `models` and `stream`.
    """

    bin: Path
    packages: Path
    project: Path
    environment: dict[str, str] = field(repr=False)

    @property
    def python(self) -> Path:
        """The Python that has the wheel."""
        return self.bin / "python"

    def attempt(
        self, command: str, *arguments: object, folder: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command or `python` to its end, in `packages` by default."""
        return subprocess.run(
            [self.bin / command, *map(str, arguments)],
            cwd=folder or self.packages, env=self.environment, capture_output=True, text=True, timeout=900,
            check=False,
        )  # fmt: skip

    def run(
        self, command: str, *arguments: object, folder: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command or `python`, which has to succeed."""
        ran = self.attempt(command, *arguments, folder=folder)
        assert ran.returncode == 0, ran.stderr
        return ran


def install_wheel(wheel: Path, folder: Path) -> Installed:
    """Makes an environment that has only the wheel; what the wheel needs is borrowed from this Python."""
    venv.create(folder / "venv", symlinks=True)
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    borrowed = [path for path in sys.path if path.endswith("site-packages")]
    (site / "borrowed.pth").write_text("\n".join(borrowed))
    packages, project = folder / "packages", folder / "project"
    for name in sorted(TOP_LEVEL):
        write_package(packages / name)
    write_project(project)
    unwanted = {"PYTHONPATH", "PYTHONHOME"}
    environment = {name: text for name, text in os.environ.items() if name not in unwanted}
    installed = Installed(folder / "venv" / "bin", packages, project, {**environment, "MPLBACKEND": "agg"})
    options = ["--quiet", "--no-deps", "--no-index", "--ignore-installed"]
    installed.run("python", "-P", "-m", "pip", "install", *options, wheel)
    for name in sorted(TOP_LEVEL):
        found = installed.run("python", "-P", "-c", f"import {name}; print({name}.__file__)").stdout
        assert Path(found).is_relative_to(site), "the checkout itself would be tested"
    return installed


def write_package(folder: Path) -> None:
    """A package of the user that has the name of one of ours."""
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise SystemExit('the package of the user was imported')\n")


def write_project(folder: Path) -> None:
    """Folders `models` and `stream` as they lie beside many a script: files of all kinds, and no package."""
    for name, file in {"models": "net.py", "stream": "server.py"}.items():
        (folder / name).mkdir(parents=True)
        (folder / name / file).write_text("raise SystemExit('a module of the user was imported')\n")
        (folder / name / "README.txt").write_text("of the user\n")
