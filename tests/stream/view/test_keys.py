"""Keys in a terminal: what each does, that nothing is read elsewhere, and that the terminal is given back."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import termios
from typing import TYPE_CHECKING

import pytest

from stream.controls import Controls
from stream.messages import CommandOutcome, EngineCommand, Marker, Origin
from stream.view.keys import HINT, TerminalKeys, has_keys

if TYPE_CHECKING:
    from collections.abc import Iterator


class Engine:
    """What keys ask for, written down."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def command(self, command: EngineCommand) -> CommandOutcome:
        self.asked.append(command)
        return CommandOutcome(True)

    def mark(self, text: str, origin: Origin, marked_at: float | None = None) -> Marker:
        self.asked.append(f"{origin}: {text}")
        return Marker(text, 0.0, None, origin)


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """The two ends of a real pseudo-terminal: what a person types into, and what a program reads from."""
    outer, inner = pty.openpty()
    yield outer, inner
    os.close(outer)
    os.close(inner)


def mode(descriptor: int) -> tuple[int, bool]:
    """The local flags of a terminal, and whether it echoes."""
    flags = termios.tcgetattr(descriptor)[3]
    return flags, bool(flags & termios.ECHO)


async def press(outer: int, keys: bytes) -> None:
    os.write(outer, keys)
    await asyncio.sleep(0.2)


async def test_each_key_does_what_is_said_and_the_terminal_comes_back(
    terminal: tuple[int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    outer, inner = terminal
    before = termios.tcgetattr(inner)
    engine, controls, ended = Engine(), Controls(), []
    controls.attach(engine)
    keys = TerminalKeys(controls, descriptor=inner, end=lambda: ended.append(True))
    await keys.open()
    assert HINT in capsys.readouterr().err
    assert not mode(inner)[1], "keys are not shown"
    assert mode(inner)[0] & termios.ISIG, "Ctrl-C stays what it is"
    running = asyncio.create_task(keys.run())
    await press(outer, b"m")
    await press(outer, b"Mp")
    await press(outer, b"xr\x1b[A")
    await press(outer, b"q")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await keys.close()
    assert engine.asked == ["terminal: mark 1", "terminal: mark 2", "pause", "recenter"]
    assert ended == [True]
    assert termios.tcgetattr(inner) == before


async def test_a_key_before_the_run_has_begun_marks_nothing(terminal: tuple[int, int]) -> None:
    outer, inner = terminal
    keys = TerminalKeys(Controls(), descriptor=inner)
    await keys.open()
    running = asyncio.create_task(keys.run())
    await press(outer, b"mpr")
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await keys.close()


async def test_where_there_is_no_terminal_nothing_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    reading, writing = os.pipe()
    keys = TerminalKeys(Controls(), descriptor=reading)
    await keys.open()
    running = asyncio.create_task(keys.run())
    await press(writing, b"q")
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await keys.close()
    assert os.read(reading, 8) == b"q"
    assert capsys.readouterr().err == ""
    os.close(reading)
    os.close(writing)
    assert not has_keys(), "pytest's own input is no terminal"


async def test_a_terminal_that_goes_away_ends_nothing(terminal: tuple[int, int]) -> None:
    _, inner = terminal
    outer, gone = pty.openpty()
    keys = TerminalKeys(Controls(), descriptor=gone)
    await keys.open()
    running = asyncio.create_task(keys.run())
    os.close(outer)
    await asyncio.sleep(0.3)
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await keys.close()
    os.close(gone)
    assert mode(inner)[1]


async def test_called_back_after_ctrl_z_it_has_the_terminal_again(terminal: tuple[int, int]) -> None:
    _, inner = terminal
    before = termios.tcgetattr(inner)
    keys = TerminalKeys(Controls(), descriptor=inner)
    await keys.open()
    running = asyncio.create_task(keys.run())
    await asyncio.sleep(0.1)
    termios.tcsetattr(inner, termios.TCSANOW, before)
    os.kill(os.getpid(), signal.SIGCONT)
    await asyncio.sleep(0.1)
    assert not mode(inner)[1]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await keys.close()
    assert termios.tcgetattr(inner) == before
