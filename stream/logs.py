"""What a run says on stderr of the things a person acts on, through Python's logging: one line each, text or JSON.

The events: `started`, `note`, `refused`, `connected`, `lost`, `recovered`, `paused`, `resumed`, `ladder`, `drops`,
`outbox`, `marker`, `stopped`, and `failed`, a command's last line. Nothing else is logged at `info` or above.
"""

from __future__ import annotations

import json
import logging
import queue
import sys
import threading
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from logging.handlers import QueueHandler
from typing import TYPE_CHECKING, Any, Final, Literal

from models.console import say_through

if TYPE_CHECKING:
    from collections.abc import Iterator

LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

OURS: Final = ("models", "stream", "offline", "affectstream")
"""Whose lines `--log-level` is about; of other packages, warnings and errors are shown at every level."""

for _name in OURS:
    # A program that imports this says itself what is shown of its lines, by its own logging; otherwise nothing is.
    logging.getLogger(_name).addHandler(logging.NullHandler())

WAITING_LINES: Final = 1024
"""Lines that may wait for a stderr that nobody reads; beyond it lines are dropped, and that is said with the next."""

CLOSING_S: Final = 2.0
"""How long the end waits for lines that are not written yet."""


def note(log: logging.Logger, level: int, event: str, message: str, **fields: object) -> None:
    """Logs one event: `message` for people, `event` and `fields` for programs."""
    log.log(level, "%s", message, extra={"event": event, "fields": fields})


class TextLines(logging.Formatter):
    """A line for people: the local time, how bad it is, what happened."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, also of a message of several."""
        at = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        return f"{at} {record.levelname.lower()}: {_one_line(record)}"


class JsonLines(logging.Formatter):
    """A JSON object in a line: `time` (ISO 8601, UTC), `level`, `event`, `message`, `logger`, and more.

    `event` is null in the lines of other packages.
    """

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        fields: dict[str, Any] = getattr(record, "fields", {})
        return json_line(
            record.created,
            record.levelname.lower(),
            getattr(record, "event", None),
            _one_line(record),
            logger=record.name,
            **fields,
        )


def json_line(at_s: float, level: str, event: str | None, message: str, **fields: object) -> str:
    """The JSON form of one line; `at_s` in seconds since the epoch."""
    time = datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds")
    line = {"time": time, "level": level, "event": event, "message": message, **fields}
    return json.dumps(line, default=str, ensure_ascii=False)


def _one_line(record: logging.LogRecord) -> str:
    return " ".join(record.getMessage().split())


class StderrLines(logging.Handler):
    """Writes to what is stderr at that moment: a live view puts itself in its place."""

    def emit(self, record: logging.LogRecord) -> None:
        """One line, at once; a stderr that is gone is nobody's loss."""
        try:
            print(self.format(record), file=sys.stderr, flush=True)
        except (OSError, ValueError):
            return


class WrittenByThread(QueueHandler):
    """Hands lines to a thread that writes them and never waits; what there is no room for is dropped, and said."""

    def __init__(self, writer: logging.Handler) -> None:
        self._lines: queue.Queue[logging.LogRecord | None] = queue.Queue(WAITING_LINES)
        super().__init__(self._lines)
        self._writer = writer
        self._dropped = 0
        self._thread = threading.Thread(target=self._write_all, name="log", daemon=True)
        self._thread.start()

    def enqueue(self, record: logging.LogRecord) -> None:
        """Takes a line, where there is room."""
        if self._dropped:
            record.msg = f"{record.msg} (and {self._dropped} lines before it, for which there was no room)"
        try:
            self._lines.put_nowait(record)
            self._dropped = 0
        except queue.Full:
            self._dropped += 1

    def close(self) -> None:
        """Waits until all is written, but not long for a stderr that takes nothing."""
        with suppress(queue.Full):
            self._lines.put(None, timeout=CLOSING_S)
        self._thread.join(CLOSING_S)
        super().close()

    def _write_all(self) -> None:
        while (record := self._lines.get()) is not None:
            self._writer.handle(record)


@contextmanager
def logging_to_stderr(log_format: LogFormat, level: LogLevel) -> Iterator[None]:
    """Lines on stderr while the block runs, written by a thread of their own, and all of them there behind it.

    With `json` everything that a command says on stderr is JSON from then on, its last line too (`models.console`).
    """
    json_lines = log_format == "json"
    writer = StderrLines()
    writer.setFormatter(JsonLines() if json_lines else TextLines())
    handler = WrittenByThread(writer)
    if json_lines:
        logging.captureWarnings(True)
        say_through(JsonSay(level))
    ours = [logging.getLogger(name) for name in OURS]
    before = [logger.level for logger in ours]
    for logger in ours:
        logger.setLevel(level.upper())
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()
        for logger, was in zip(ours, before, strict=True):
            logger.setLevel(was)
        if json_lines:
            logging.captureWarnings(False)


class JsonSay:
    """What a command says of itself, as JSON: progress where `debug` is asked for, its one error always."""

    def __init__(self, level: LogLevel) -> None:
        self._shows_progress = level == "debug"

    def __call__(self, message: str, *, is_error: bool) -> None:
        if is_error or self._shows_progress:
            level, event = ("error", "failed") if is_error else ("debug", "progress")
            now_s = datetime.now(UTC).timestamp()
            print(json_line(now_s, level, event, message), file=sys.stderr, flush=True)
