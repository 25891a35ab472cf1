"""The recorder: one JSON line per settled estimate, all of them on disk whatever ends the run."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter, deque
from contextlib import suppress
from io import FileIO
from typing import TYPE_CHECKING, Final

from models.errors import UserError
from stream.sinks.base import QuietSink

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from stream.messages import Estimate

QUEUE_LINES: Final = 4096


class RecordSink(QuietSink):
    """Writes settled estimates to a JSON Lines file, in their recorded form (`Estimate.to_record`).

    Lines are handed to the operating system as they come, by a thread and whole; `close` writes what is left
    and syncs it to the disk. A file that already holds something is refused unless `overwrite` is asked for.
    When the disk fails, the whole lines on it stay, the rest is counted as dropped, and `close` raises the
    UserError that says so. Replaying a file gives the same record, byte for byte.
    """

    name = "record"

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        self._path = path
        self._overwrite = overwrite
        self._file: FileIO | None = None
        self._waiting: deque[Estimate] = deque()
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._writing: asyncio.Task[None] | None = None
        self._drops: Counter[str] = Counter()
        self._written = 0
        self._failure: str | None = None

    @property
    def drops(self) -> Mapping[str, int]:
        """`record_queue`: the disk was too slow; `record_failed`: it was full, or broke."""
        return self._drops

    @property
    def counters(self) -> Mapping[str, float]:
        """`record_lines`: lines written."""
        return {"record_lines": self._written}

    async def open(self) -> None:
        """Create the file. Raises UserError where that would lose an earlier record, or cannot be done."""
        try:
            self._file = await asyncio.to_thread(self._create_file)
        except OSError as error:
            raise UserError(
                f"cannot record to {self._path} ({error.strerror or error}): "
                "give a file in a folder that you can write to"
            ) from None

    def _create_file(self) -> FileIO:
        try:
            return FileIO(self._path, "x")
        except FileExistsError:
            holds_something = not self._path.is_file() or self._path.stat().st_size > 0
            if holds_something and not self._overwrite:
                raise UserError(
                    f"{self._path} exists already: give another name, or --overwrite to replace it"
                ) from None
            return FileIO(self._path, "w")

    async def run(self) -> None:
        """Write lines as they come."""
        while True:
            await self._arrived.wait()
            await self._write_waiting()

    async def ready(self) -> None:
        """Wait for the disk where it is a whole queue behind."""
        await self._room.wait()

    def offer(self, estimate: Estimate) -> None:
        """Take an estimate; provisional ones are not recorded."""
        if not estimate.settled:
            return
        if self._failure is not None:
            self._drops["record_failed"] += 1
        elif len(self._waiting) >= QUEUE_LINES:
            self._drops["record_queue"] += 1
        else:
            self._waiting.append(estimate)
            self._arrived.set()
            if len(self._waiting) >= QUEUE_LINES // 2:
                self._room.clear()

    async def close(self) -> None:
        """Write what is left, sync and close. Raises UserError where lines were lost."""
        if self._writing is not None:
            await self._writing
        if self._waiting:
            await self._write_waiting()
        file, self._file = self._file, None
        if file is not None:
            await asyncio.to_thread(self._sync_and_close, file)
        lost = self._drops.total()
        if lost or self._failure is not None:
            reason = self._failure or "the disk was too slow"
            raise UserError(
                f"the record {self._path} is not complete ({reason}): "
                f"{self._written} lines are on disk, {lost} are lost; "
                "make room there, and record again"
            )

    async def _write_waiting(self) -> None:
        batch = list(self._waiting)
        self._waiting.clear()
        self._arrived.clear()
        self._room.set()
        self._writing = asyncio.create_task(self._write_batch(batch))
        # Nothing can stop a thread that writes: a cancelled `run` leaves it to `close` to wait for.
        await asyncio.shield(self._writing)

    async def _write_batch(self, batch: list[Estimate]) -> None:
        written = await asyncio.to_thread(self._write_lines, batch)
        self._written += written
        if written < len(batch):
            self._drops["record_failed"] += len(batch) - written

    def _write_lines(self, batch: list[Estimate]) -> int:
        """In the thread: write whole lines, and say how many."""
        if self._file is None or self._failure is not None:
            return 0
        block = b"".join(record_line(estimate) for estimate in batch)
        start = self._file.tell()
        written = 0
        try:
            while written < len(block):
                written += self._file.write(memoryview(block)[written:]) or 0
        except OSError as error:
            self._failure = error.strerror or str(error)
            whole = block.rfind(b"\n", 0, written) + 1
            with suppress(OSError):
                self._file.truncate(start + whole)
            return block.count(b"\n", 0, whole)
        return len(batch)

    def _sync_and_close(self, file: FileIO) -> None:
        try:
            os.fsync(file.fileno())
        except OSError as error:
            self._failure = self._failure or error.strerror or str(error)
        with suppress(OSError):
            file.close()


def record_line(estimate: Estimate) -> bytes:
    """One line of a record: compact JSON, keys in the order of `Estimate.to_record`."""
    return json.dumps(estimate.to_record(), separators=(",", ":"), allow_nan=False).encode() + b"\n"
