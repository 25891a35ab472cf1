"""A broker with TLS and passwords, killed and started again, by the command lines that the documents show."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.commands import REPOSITORY, command_line
from tests.stream.brokers import free_port, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECTION = "### A broker with TLS and passwords, from nothing"
NEEDED = ("mosquitto_passwd", "mosquitto_pub", "openssl")


class Documented:
    """The section of `docs/mqtt.md`: its commands and its configuration, with another port, in a folder."""

    def __init__(self, folder: Path) -> None:
        if missing := [name for name in NEEDED if shutil.which(name) is None]:
            pytest.skip(f"{missing[0]} is not installed")
        mosquitto = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
        if mosquitto is None:
            pytest.skip("mosquitto is not installed")
        self._mosquitto = mosquitto
        self.folder = folder
        self.port = free_port()
        text = (REPOSITORY / "docs" / "mqtt.md").read_text(encoding="utf-8").partition(f"\n{SECTION}\n")[2]
        text = re.split(r"\n##+ ", text)[0].replace("8883", str(self.port))
        configuration = re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)[0]
        as_root = "user root\n" if os.geteuid() == 0 else ""
        (folder / "mosquitto.conf").write_text(configuration + as_root)
        self._lines = re.findall(r"^ {4}(.+)$", text, re.MULTILINE)
        exported = shlex.split(self.line("export"))[1:]
        self.environment = {
            **os.environ,
            **dict(each.split("=", 1) for each in exported),
            "PYTHONPATH": str(REPOSITORY),
        }
        self._running: list[subprocess.Popen[bytes]] = []

    def line(self, name: str) -> str:
        """The documented command of this name."""
        found: str = next(line for line in self._lines if line.split()[0] == name)
        return found

    def run(self, name: str) -> None:
        """Run a documented command of another program."""
        subprocess.run(shlex.split(self.line(name)), cwd=self.folder, check=True, capture_output=True)

    def start_broker(self) -> subprocess.Popen[bytes]:
        _, *options = shlex.split(self.line("mosquitto"))
        return self._start([self._mosquitto, *options], stderr=subprocess.DEVNULL)

    def start(self, name: str, *more: object) -> subprocess.Popen[bytes]:
        """Start one of our commands as documented, with `more` options."""
        command, _, output = self.line(name).partition(" > ")
        words = command_line(name, *shlex.split(command)[1:], *more)
        if not output:
            return self._start(words, stderr=subprocess.PIPE)
        with (self.folder / output).open("wb") as file:
            return self._start(words, stdout=file, stderr=subprocess.PIPE)

    def _start(self, words: list[str], **streams: Any) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(words, cwd=self.folder, env=self.environment, **streams)
        self._running.append(process)
        return process

    def publish(self, topic: str, payload: str, password: str | None = None) -> int:
        """Publish with a real mosquitto_pub; its exit status."""
        user = self.environment["AFFECT_BROKER_USER"]
        known = password or self.environment["AFFECT_BROKER_PASSWORD"]
        command = (
            f"mosquitto_pub -h localhost -p {self.port} --cafile broker.pem -q 1 -t {topic} -m {payload}"
        )
        words = [*command.split(), "-u", user, "-P", known]
        return subprocess.run(words, cwd=self.folder, capture_output=True, check=False).returncode

    def heard(self, topic: str) -> list[Any]:
        """The payloads that the subscriber wrote down, so far."""
        lines = (self.folder / "desk.jsonl").read_text().split("\n")[:-1]
        messages = [json.loads(line) for line in lines]
        return [m["payload"] for m in messages if m["topic"] == f"affect/desk/{topic}"]

    def end(self) -> None:
        for process in self._running:
            if process.poll() is None:
                process.kill()
            process.communicate()


@pytest.fixture
def documented(tmp_path: Path) -> Iterator[Documented]:
    made = Documented(tmp_path)
    yield made
    made.end()


@pytest.mark.slow
async def test_killed_in_the_middle_the_subscriber_ends_with_every_settled_frame_once_and_in_order(
    documented: Documented,
) -> None:
    documented.run("openssl")
    documented.run("mosquitto_passwd")
    broker = documented.start_broker()
    await until(lambda: documented.publish("affect/desk/hello", "one") == 0)
    assert documented.publish("affect/desk/hello", "nobody", "wrong") != 0
    watching = documented.start("stream-watch")
    await until(lambda: documented.publish("affect/desk/hello", "two") or documented.heard("hello"), 20)
    running = documented.start(
        "stream-run", "--accelerator", "eager", "--record", "record.jsonl", "--view", "none"
    )
    await until(lambda: len(documented.heard("settled")) > 100, timeout_s=90)
    broker.kill()
    broker.wait()
    before = len(documented.heard("settled"))
    await asyncio.sleep(5.0)
    assert len(documented.heard("settled")) - before <= 32, "nothing comes but what was on its way"
    documented.start_broker()
    _, errors = running.communicate(timeout=120)
    assert running.returncode == 0, errors
    assert b"Traceback" not in errors
    await until(lambda: "stopped" in documented.heard("available"), timeout_s=30)
    watching.send_signal(signal.SIGINT)
    watching.communicate(timeout=20)
    recorded = [json.loads(line) for line in (documented.folder / "record.jsonl").read_text().splitlines()]
    settled = documented.heard("settled")
    assert len(recorded) > 900
    assert [each["frame"] for each in settled] == [each["frame"] for each in recorded]
    assert [(e["valence"], e["arousal"]) for e in settled] == [(e["valence"], e["arousal"]) for e in recorded]
    assert documented.heard("available").count("online") >= 2, "the publisher came back in between"
