"""Real brokers and subscribers for tests, and messages to send through them."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from stream.broker.connection import BrokerAddress
from stream.messages import Affect, BundleStatus, Estimate, InputStatus, Latency, Present, Status

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def estimate(frame: int, *, settled: bool = False, valence: float = 0.25, words: str = "") -> Estimate:
    folds = (Affect(valence - 0.1, 0.0), Affect(valence + 0.1, 0.1))
    return Estimate(
        frame=frame,
        time_s=frame / 30,
        captured_at=1_700_000_000.0 + frame / 30,
        value=Affect(valence, -0.5),
        spread=Affect(0.1, 0.05),
        folds=folds,
        present=Present(face=True, voice=frame % 2 == 0, words=False),
        settled=settled,
        latency_ms=None if settled else 21.5,
        words=words,
    )


def status(**changed: Any) -> Status:
    fields: dict[str, Any] = {
        "phase": "running",
        "source": "talk.mp4",
        "inputs": {
            "camera": InputStatus("ok", "640x480 at 30"),
            "language": InputStatus("off", "no model", "models-pull vosk-model-small-en-us-0.15"),
        },
        "frames": 30,
        "settled": 20,
        "frame_rate": 29.97,
        "latency_ms": Latency(20.0, 30.0, 40.0),
        "drops": {},
        "bundle": BundleStatus("demo", "compact", 6, False, "untrained"),
        "accelerator": "eager",
        "detector": "haar",
        "version": "0.1.0",
        "counters": {},
    }
    return Status(**(fields | changed))


MARKER = "affect/marker"
UNBOUNDED = "max_queued_messages 0\nmax_inflight_messages 0"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


async def until(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Wait, with the event loop running, until the condition holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"still waiting after {timeout_s} s"
        await asyncio.sleep(0.01)


class Mosquitto:
    """A real mosquitto on one port of this machine, which can be killed, frozen and started again."""

    def __init__(
        self, folder: Path, config: str = "", *, allow_anonymous: bool = True, bounded: bool = False
    ) -> None:
        """`bounded` leaves what waits for one client bounded, as mosquitto has it by default."""
        binary = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
        if binary is None:
            pytest.skip("mosquitto is not installed")
        self._binary = binary
        self.port = free_port()
        self._config = folder / "mosquitto.conf"
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous {str(allow_anonymous).lower()}\nlog_type error\n"
            # Started by root it would become another user, who may not read the test's folder.
            f"{'user root' if os.geteuid() == 0 else ''}\n"
            f"{'' if bounded else UNBOUNDED}\n{config}\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> BrokerAddress:
        return BrokerAddress("127.0.0.1", self.port)

    def start(self) -> None:
        self._process = subprocess.Popen([self._binary, "-c", str(self._config)], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 5
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert self._process.poll() is None, "mosquitto ended at once"
                assert time.monotonic() < deadline, "mosquitto does not listen"
                time.sleep(0.01)

    def kill(self) -> None:
        """At once, as a crash: nothing is stored, nobody is told."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


class Subscriber:
    """A real `mosquitto_sub -v -t affect/#`: what it printed, line by line, as (topic, payload).

    Made, it hears everything from then on. Blocks: in a thread where the broker runs in this event loop.
    """

    def __init__(self, port: int) -> None:
        if shutil.which("mosquitto_sub") is None:
            pytest.skip("mosquitto_sub is not installed")
        self.lines: list[tuple[str, str]] = []
        command = f"mosquitto_sub -h 127.0.0.1 -p {port} -q 1 -v -t affect/#".split()
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        deadline = time.monotonic() + 5
        while not self._ready.wait(0.02):
            assert time.monotonic() < deadline, "mosquitto_sub hears nothing"
            publish(port, MARKER, "are you there?")

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            topic, _, payload = line.rstrip("\n").partition(" ")
            if topic == MARKER:
                self._ready.set()
            else:
                self.lines.append((topic, payload))

    def payloads(self, topic: str) -> list[str]:
        return [payload for heard, payload in list(self.lines) if heard == topic]

    def close(self) -> None:
        if self._process.poll() is not None:
            return
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()


def publish(port: int, topic: str, payload: str | bytes, *options: str) -> None:
    """Publish with a real mosquitto_pub."""
    said = "-s" if payload else "-n"
    command = ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(port), "-q", "1", "-t", topic, said, *options]
    data = payload.encode() if isinstance(payload, str) else payload
    subprocess.run(command, input=data, check=True, timeout=10)
