"""How command lines fail and end, as real processes show it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
    import sys, time
    import typer
    from models.console import make_app, run
    from models.errors import UserError

    app = make_app("A program.")

    @app.command()
    def main(what: str, count: int = 0) -> None:
        if what == "user":
            raise UserError("the file is not\\nthere: give another")
        if what == "loop":
            open("/dev/null/inside")
        if what == "device":
            raise OSError("a device went away")
        if what == "bug":
            raise RuntimeError("a fault of ours")
        if what == "exit":
            raise typer.Exit(7)
        if what == "wait":
            print("waiting", flush=True)
            time.sleep(30)
        for _ in range(count):
            print("x" * 100)

    run(app)
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program"
    path.write_text(textwrap.dedent(PROGRAM))
    return path


def finish(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, program, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_success_is_silent_on_stderr_and_zero(program: Path) -> None:
    done = finish(program, "go", "--count", "2")
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 2)


def test_what_a_user_got_wrong_is_one_line_and_status_2(program: Path) -> None:
    done = finish(program, "user")
    assert (done.returncode, done.stderr) == (2, "program: the file is not there: give another\n")


@pytest.mark.parametrize("arguments", [["--nonsense"], [], ["go", "--count", "many"], ["go", "again"]])
def test_a_bad_option_is_one_line_that_points_to_the_help(program: Path, arguments: list[str]) -> None:
    done = finish(program, *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("program: ")
    assert done.stderr.endswith("(see program --help)\n")
    assert done.stderr.count("\n") == 1


def test_another_status_is_the_commands_own(program: Path) -> None:
    assert finish(program, "exit").returncode == 7


def test_a_file_that_the_system_refuses_is_one_line_and_status_2(program: Path) -> None:
    done = finish(program, "loop")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("program: /dev/null/inside cannot be used (")
    assert done.stderr.endswith("): see that it may be used, or give another one\n")
    assert "Traceback" in finish(program, "device").stderr, "not every error of the system is the user's"


def test_a_fault_of_ours_shows_its_traceback(program: Path) -> None:
    done = finish(program, "bug")
    assert done.returncode == 1
    assert "RuntimeError: a fault of ours" in done.stderr


def test_ctrl_c_ends_with_130_and_no_traceback(program: Path) -> None:
    with subprocess.Popen(
        [sys.executable, program, "wait"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (130, "")


@pytest.mark.parametrize("count", ["1", "100000"])
def test_a_reader_that_went_away_ends_it_quietly(program: Path, count: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as closed:
        done = subprocess.run(
            [sys.executable, program, "go", "--count", count],
            stdout=closed,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr) == (141, b"")


def test_help_says_what_it_is(program: Path) -> None:
    done = finish(program, "--help")
    assert done.returncode == 0
    assert "Usage: program" in done.stdout


WAITER = """
    from models.console import waiting

    with waiting("the first thing", tell_first=False) as tell:
        tell("the second thing")
    with waiting("the third thing"):
        pass
"""


@pytest.mark.parametrize("terminal", [False, True])
def test_what_is_waited_for_is_said_on_stderr(tmp_path: Path, terminal: bool) -> None:
    path = tmp_path / "waiter"
    path.write_text(textwrap.dedent(WAITER))
    environment = {name: text for name, text in os.environ.items() if name not in ("NO_COLOR", "TERM")}
    forced = {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "100"} if terminal else {}
    done = subprocess.run(
        [sys.executable, path],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=environment | forced,
    )
    assert done.stdout == ""
    assert "the second thing" in done.stderr
    assert ("the first thing" in done.stderr) is terminal
    if terminal:
        assert "0:00:0" in done.stderr  # for how long already
    else:
        assert done.stderr.splitlines() == ["waiter: the second thing", "waiter: the third thing"]
