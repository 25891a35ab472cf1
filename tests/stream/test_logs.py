"""Lines on stderr: text and JSON, of real processes, one for each thing that a person acts on."""

from __future__ import annotations

import io
import json
import logging
import re
import signal
import subprocess
import sys
import threading
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from models import console
from stream import logs
from stream.logs import logging_to_stderr, note
from tests.commands import REPOSITORY, command_line, run_in_own_process
from tests.faults.test_recovery import Sender

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.stream.brokers import Mosquitto

log = logging.getLogger("stream.test")


def test_a_line_of_text_says_when_how_bad_and_what(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_to_stderr("text", "warning"):
        note(log, logging.INFO, "connected", "found")
        note(log, logging.WARNING, "lost", "lost the\ncamera", what="camera")
        console.tell("loading")
    clock, _, rest = capsys.readouterr().err.splitlines()[-1].partition(" ")
    assert len(clock) == len("16:00:00")
    assert rest == "warning: lost the camera"


def test_a_line_of_json_says_it_to_programs(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_to_stderr("json", "info"):
        note(log, logging.WARNING, "lost", 'the "camera"\nis away', what="camera", since_s=1.5)
        logging.getLogger("another.package").warning("%s is odd", "this")
        logging.getLogger("another.package").info("chatter")
        log.debug("detail")
        console.tell("loading")
    console.say_through(None)
    first, second = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert abs(datetime.fromisoformat(first.pop("time")).timestamp() - time.time()) < 60
    assert first == {
        "level": "warning",
        "event": "lost",
        "message": 'the "camera" is away',
        "logger": "stream.test",
        "what": "camera",
        "since_s": 1.5,
    }
    assert (second["event"], second["message"]) == (None, "this is odd")


def test_afterwards_everything_is_as_it_was() -> None:
    handlers, level = list(logging.getLogger().handlers), logging.getLogger("stream").level
    with pytest.raises(ValueError, match="fault"), logging_to_stderr("json", "debug"):
        raise ValueError("fault")
    console.say_through(None)
    assert logging.getLogger().handlers == handlers
    assert logging.getLogger("stream").level == level


def test_a_stderr_that_takes_nothing_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = threading.Event()

    class Held(io.StringIO):
        def write(self, text: str) -> int:
            taken.wait(20)
            return super().write(text)

    monkeypatch.setattr(logs, "WAITING_LINES", 8)
    held = Held()
    monkeypatch.setattr(sys, "stderr", held)
    with logging_to_stderr("text", "info"):
        began = time.monotonic()
        for number in range(100):
            note(log, logging.INFO, "note", f"line {number}")
        assert time.monotonic() - began < 5
        taken.set()
        while len(held.getvalue().splitlines()) < 8:
            time.sleep(0.01)
        note(log, logging.INFO, "note", "the last")
    *written, last = lines = held.getvalue().splitlines()
    assert re.search(r"the last \(and \d+ lines before it, for which there was no room\)", last), last
    # The thread may have begun late: a line for which it made room has told of those before it already.
    told = re.findall(r"\(and (\d+) lines before it, for which there was no room\)", "\n".join(lines))
    assert sum(map(int, told)) + len(written) == 100, "each line is written or counted"
    assert len(written) < 20, "no more than there is room for, and what was being written"


def test_a_stderr_that_takes_nothing_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    held = threading.Event()

    class Held(io.StringIO):
        def write(self, text: str) -> int:
            held.wait(30)
            return super().write(text)

    monkeypatch.setattr(logs, "WAITING_LINES", 4)
    monkeypatch.setattr(logs, "CLOSING_S", 0.2)
    monkeypatch.setattr(sys, "stderr", Held())
    began = time.monotonic()
    with logging_to_stderr("text", "info"):
        for number in range(10):
            note(log, logging.INFO, "note", f"line {number}")
    held.set()
    assert time.monotonic() - began < 10


def test_every_line_from_info_on_is_an_event() -> None:
    """Whoever logs says which event it is: by `note`, and in no other way."""
    direct = re.compile(r"\blog(?:ging|ger)?\.(?:info|warning|error|exception|critical)\(")
    sources = [path for folder in logs.OURS for path in (REPOSITORY / folder).rglob("*.py")]
    assert sources
    assert [path for path in sources if direct.search(path.read_text(encoding="utf-8"))] == []


def test_a_refusal_is_json_too() -> None:
    ran = run_in_own_process("stream-run", "no such file.mp4", "--log-format", "json", "--view", "none")
    assert ran.returncode == 2
    (line,) = [json.loads(text) for text in ran.stderr.splitlines()]
    assert (line["level"], line["event"]) == ("error", "failed")
    assert "no such file.mp4" in line["message"]


class Run:
    """A `stream-run` whose stderr is read as JSON, line by line, as it comes."""

    def __init__(self, *arguments: object) -> None:
        command = command_line("stream-run", *arguments, "--log-format", "json", "--log-level", "info")
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        self.lines: list[dict[str, Any]] = []
        self.others: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for text in self.process.stderr:
            try:
                self.lines.append(json.loads(text))
            except ValueError:
                self.others.append(text)

    def until(self, event: str, times: int = 1, **fields: str) -> None:
        deadline_s = time.monotonic() + 120
        while sum(fields.items() <= line.items() for line in self.lines if line["event"] == event) < times:
            assert time.monotonic() < deadline_s, self.lines
            assert self.process.poll() is None, (self.lines, self.others)
            time.sleep(0.05)

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(timeout=60)
        self._reader.join()
        return status


@pytest.fixture
def start() -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def begin(*arguments: object) -> Run:
        runs.append(Run(*arguments))
        return runs[-1]

    yield begin
    for run in runs:
        if run.process.poll() is None:
            run.process.kill()
            run.process.wait()


@pytest.mark.slow
def test_a_live_run_whose_camera_and_broker_go_and_come_logs_just_that(
    fixtures: Path, mosquitto: Mosquitto, start: Callable[..., Run]
) -> None:
    sender = Sender(fixtures / "clips" / "lbax4n.mpg")
    sender.start()
    try:
        run = start(
            *(sender.url, "--bundle", "demo", "--recogniser", "none", "--accelerator", "eager"),
            *("--broker", f"mqtt://127.0.0.1:{mosquitto.port}", "--view", "plain", "--budget", "one-fold"),
        )
        run.until("started")
        time.sleep(1)
        sender.kill()
        run.until("lost", what="camera")
        sender.start()
        run.until("recovered", what="camera")
        mosquitto.kill()
        run.until("lost", what="broker")
        mosquitto.start()
        run.until("recovered", what="broker")
    finally:
        sender.kill()
    assert run.end() == 128 + signal.SIGTERM
    assert run.others == []
    events = [(line["event"], line.get("what")) for line in run.lines if line["event"] != "drops"]
    assert events[:2] == [("connected", "broker"), ("started", None)]
    assert events[-1] == ("stopped", None)
    assert [each for each in events[2:-1] if each != ("outbox", None)][:4] == [
        ("lost", "camera"),
        ("recovered", "camera"),
        ("lost", "broker"),
        ("recovered", "broker"),
    ]
    for line in run.lines:
        assert line["event"] is not None, line
        assert line["logger"].split(".")[0] in logs.OURS
        assert datetime.fromisoformat(line["time"]).utcoffset() is not None
