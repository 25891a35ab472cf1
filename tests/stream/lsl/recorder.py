"""A recorder for tests: LSL streams as they come, with the clock offsets between, to an XDF file (version 1.0)."""

from __future__ import annotations

import struct
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILE_HEADER, STREAM_HEADER, SAMPLES, CLOCK_OFFSET, STREAM_FOOTER = 1, 2, 3, 4, 6
OFFSET_EVERY_S = 0.5


class Recorded:
    """One stream, of which everything is kept that its inlet gives."""

    def __init__(self, pylsl: Any, info: Any) -> None:
        self.inlet = pylsl.StreamInlet(info, processing_flags=0)
        self.inlet.open_stream(timeout=20)
        self.info = self.inlet.info(timeout=20)
        self.samples: list[list[Any]] = []
        self.stamps: list[float] = []
        self.offsets: list[tuple[float, float]] = []
        self._local_clock = pylsl.local_clock
        self._offset_due_s = 0.0

    def pull(self) -> int:
        """Takes what has come; how much that was."""
        samples, stamps = self.inlet.pull_chunk(timeout=0.02)
        self.samples += samples
        self.stamps += stamps
        if time.monotonic() >= self._offset_due_s:
            self._offset_due_s = time.monotonic() + OFFSET_EVERY_S
            self.offsets.append((self._local_clock(), self.inlet.time_correction(timeout=5)))
        return len(samples)


@contextmanager
def recording(*streams: Recorded) -> Iterator[None]:
    """Pulls in a thread while the block runs."""
    ending = threading.Event()

    def pull_all() -> None:
        while not ending.is_set():
            for stream in streams:
                stream.pull()

    thread = threading.Thread(target=pull_all)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()


def write_xdf(file: Path, streams: list[Recorded]) -> None:
    """Writes streams of float32 or strings as the specification of XDF 1.0 says."""
    with file.open("wb") as out:
        out.write(b"XDF:")
        _write_chunk(out, FILE_HEADER, b'<?xml version="1.0"?><info><version>1.0</version></info>')
        for number, stream in enumerate(streams, 1):
            head = struct.pack("<I", number)
            _write_chunk(out, STREAM_HEADER, head + stream.info.as_xml().encode())
            count = struct.pack("<BI", 4, len(stream.samples))
            rows = b"".join(
                struct.pack("<Bd", 8, stamp) + _values(sample)
                for sample, stamp in zip(stream.samples, stream.stamps, strict=True)
            )
            _write_chunk(out, SAMPLES, head + count + rows)
            for at, offset in stream.offsets:
                _write_chunk(out, CLOCK_OFFSET, head + struct.pack("<dd", at, offset))
            footer = (
                f'<?xml version="1.0"?><info><first_timestamp>{stream.stamps[0]}</first_timestamp>'
                f"<last_timestamp>{stream.stamps[-1]}</last_timestamp>"
                f"<sample_count>{len(stream.samples)}</sample_count></info>"
            )
            _write_chunk(out, STREAM_FOOTER, head + footer.encode())


def _values(sample: list[Any]) -> bytes:
    if isinstance(sample[0], str):
        texts = [text.encode() for text in sample]
        return b"".join(struct.pack("<BI", 4, len(text)) + text for text in texts)
    return struct.pack(f"<{len(sample)}f", *sample)


def _write_chunk(out: Any, tag: int, content: bytes) -> None:
    out.write(struct.pack("<BQH", 8, len(content) + 2, tag) + content)
