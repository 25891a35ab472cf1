"""Commands run by the name of their console script: in this process, or in one of their own."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
SCRIPTS: dict[str, str] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["scripts"]


class Ended(NamedTuple):
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """What it printed on stdout, or its one line of refusal."""
        if not self.status:
            return self.out
        assert self.status == 2
        assert self.err.count("\n") == 1, self.err
        return self.err


class RunCommand(Protocol):
    def __call__(self, name: str, *arguments: object) -> Ended: ...


def run_in_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, *arguments: object
) -> Ended:
    """Run a command in this process as its console script does."""
    module, _, function = SCRIPTS[name].partition(":")
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    status = 0
    try:
        getattr(import_module(module), function)()
    except SystemExit as e:
        status = int(e.code or 0)
    return Ended(status, *capsys.readouterr())


def command_line(name: str, *arguments: object, without: str = "") -> list[str]:
    """What starts a command in a process of its own, in which the package `without` cannot be imported."""
    module, _, function = SCRIPTS[name].partition(":")
    absent = f"sys.modules[{without!r}] = None; " if without else ""
    program = f"import sys; {absent}from {module} import {function}; sys.argv[0] = {name!r}; {function}()"
    return [sys.executable, "-c", program, *map(str, arguments)]


def run_in_own_process(
    name: str, *arguments: object, timeout_s: float = 300, without: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end in a process of its own, in which the package `without` cannot be imported."""
    return subprocess.run(
        command_line(name, *arguments, without=without),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
