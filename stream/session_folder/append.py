"""A file that only grows, by whole lines: what is in it stays, whatever the disk does."""

from __future__ import annotations

import os
from contextlib import suppress
from io import FileIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class LineFile:
    """Lines appended to a file, handed to the operating system at each `append`, whole or not at all.

    Once the disk fails nothing more is taken: `failure` says why, and what is on the disk ends with a whole line.
    """

    def __init__(self, path: Path, first_line: str) -> None:
        """Creates the file. Raises OSError where that cannot be done, or it is there already."""
        self.path = path
        self.failure: str | None = None
        self._file = FileIO(path, "x")
        self.append([first_line])

    def append(self, lines: Sequence[str]) -> int:
        """Appends lines, and says how many are in the file."""
        if self.failure is not None:
            return 0
        block = "".join(lines).encode()
        start = self._file.seek(0, os.SEEK_END)
        written = 0
        try:
            while written < len(block):
                written += self._file.write(memoryview(block)[written:]) or 0
        except OSError as error:
            self.failure = error.strerror or str(error)
            whole = block.rfind(b"\n", 0, written) + 1
            with suppress(OSError):
                self._file.truncate(start + whole)
            return block.count(b"\n", 0, whole)
        return len(lines)

    def rewrite(self, lines: Sequence[str]) -> bool:
        """Puts a file of these lines in its place, whole, and goes on from there; False, and nothing changed, where
        that cannot be done.
        """
        beside = self.path.with_name(f".{self.path.name}.part")
        try:
            beside.write_text("".join(lines), encoding="utf-8", newline="")
            os.replace(beside, self.path)
            file = FileIO(self.path, "a")
        except OSError:
            beside.unlink(missing_ok=True)
            return False
        self._file.close()
        self._file = file
        return True

    def sync(self) -> None:
        """Waits until it is on the disk."""
        if self.failure is None and not self._file.closed:
            try:
                os.fsync(self._file.fileno())
            except OSError as error:
                self.failure = error.strerror or str(error)

    def close(self) -> None:
        """Syncs and closes; may be repeated."""
        self.sync()
        with suppress(OSError):
            self._file.close()
