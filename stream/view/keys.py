"""Keys that steer a run from its terminal: m marks, p pauses and resumes, r recenters, q ends."""

from __future__ import annotations

import asyncio
import atexit
import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from models.console import tell
from models.errors import UserError
from stream.sinks.base import QuietSink

if TYPE_CHECKING:
    from collections.abc import Callable

    from stream.controls import Controls
    from stream.messages import Phase, Status

HINT: Final = "keys: m marks this moment, p pauses and resumes, r recenters, q ends"

LOOK_AGAIN_S: Final = 0.5
"""How often a run in the background looks whether it has its terminal again."""


def _end_by_ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


class TerminalKeys(QuietSink):
    """Reads single keys while a run goes on, and gives the terminal back as it was, whatever ends the run.

    Does nothing where standard input is no terminal, or on a system without `termios`. While the process is in the
    background, keys belong to whoever is in front: none is read. `end` is called for q.
    """

    name = "keys"

    def __init__(
        self, controls: Controls, *, descriptor: int | None = None, end: Callable[[], None] = _end_by_ctrl_c
    ) -> None:
        self._controls = controls
        self._end = end
        self._descriptor = _standard_input() if descriptor is None else descriptor
        self._before: list[Any] | None = None
        self._phase: Phase = "starting"
        self._marked = 0

    async def open(self) -> None:
        """Has the terminal give keys at once and unseen, where there is one."""
        if self._is_in_front():
            self._take_terminal()
            tell(HINT)

    def _is_in_front(self) -> bool:
        """Whether there is a terminal and its keys are meant for this process."""
        if sys.platform == "win32" or self._descriptor is None or not os.isatty(self._descriptor):
            return False
        try:
            return os.tcgetpgrp(self._descriptor) == os.getpgrp()
        except OSError:  # a terminal that is not this process's own, as tests have
            return True

    def _take_terminal(self) -> None:
        import termios

        assert self._descriptor is not None
        with suppress(termios.error, OSError):
            if self._before is None:
                self._before = termios.tcgetattr(self._descriptor)
                # An interpreter that ends in the middle of it all still gives the terminal back.
                atexit.register(self._give_back)
            mode = termios.tcgetattr(self._descriptor)
            # Ctrl-C and Ctrl-Z stay what they are.
            mode[3] &= ~(termios.ICANON | termios.ECHO)
            # Another program may read a key first: then nothing is there, and nothing is waited for.
            mode[6][termios.VMIN], mode[6][termios.VTIME] = 0, 0
            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, mode)

    def _take_terminal_again(self) -> None:
        if self._is_in_front():
            self._take_terminal()

    def _give_back(self) -> None:
        if self._before is None or not self._is_in_front():
            return
        import termios

        assert self._descriptor is not None
        with suppress(termios.error, OSError):
            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)
        self._before = None
        atexit.unregister(self._give_back)

    async def run(self) -> None:
        """Obeys keys until cancelled."""
        if self._before is None or self._descriptor is None:
            await asyncio.Event().wait()
            return
        loop = asyncio.get_running_loop()
        pressed = asyncio.Event()
        with suppress(NotImplementedError, RuntimeError, ValueError):  # not in the main thread
            # A shell sets the terminal up anew for a program that it calls back after Ctrl-Z.
            loop.add_signal_handler(signal.SIGCONT, self._take_terminal_again)
        try:
            while True:
                if not self._is_in_front():
                    await asyncio.sleep(LOOK_AGAIN_S)
                    continue
                pressed.clear()
                loop.add_reader(self._descriptor, pressed.set)
                with suppress(TimeoutError):
                    await asyncio.wait_for(pressed.wait(), LOOK_AGAIN_S)
                loop.remove_reader(self._descriptor)
                if pressed.is_set() and self._is_in_front():
                    keys = os.read(self._descriptor, 64)
                    if not keys:  # somebody else has it, or the terminal is gone
                        await asyncio.sleep(LOOK_AGAIN_S)
                    for key in keys.decode("ascii", "ignore").lower():
                        self._obey(key)
        except OSError:  # so it is here
            await asyncio.Event().wait()
        finally:
            loop.remove_reader(self._descriptor)
            with suppress(NotImplementedError, RuntimeError, ValueError):
                loop.remove_signal_handler(signal.SIGCONT)

    def _obey(self, key: str) -> None:
        if key == "m":
            with suppress(UserError):
                self._controls.mark(f"mark {self._marked + 1}", "terminal")
                self._marked += 1
        elif key == "p":
            self._controls.command("resume" if self._phase == "paused" else "pause")
        elif key == "r":
            self._controls.command("recenter")
        elif key == "q":
            self._end()

    def offer_status(self, status: Status) -> None:
        """Notes whether the run is paused."""
        self._phase = status.phase

    async def close(self) -> None:
        """Gives the terminal back."""
        self._give_back()


def has_keys() -> bool:
    """Whether standard input is a terminal, on a system where single keys can be read from one."""
    descriptor = _standard_input()
    return sys.platform != "win32" and descriptor is not None and os.isatty(descriptor)


def _standard_input() -> int | None:
    """The descriptor of standard input, None where it was closed or replaced."""
    try:
        return sys.stdin.fileno()
    except (AttributeError, OSError, ValueError):
        return None
