"""The blocks of docs/connect.md that say so are run as they stand there, beside one real run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.commands import command_line
from tests.stream.broker_fixtures import mosquitto, own_state_folder
from tests.stream.brokers import free_port

if TYPE_CHECKING:
    from tests.stream.brokers import Mosquitto

__all__ = ["mosquitto", "own_state_folder"]

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "connect.md").read_text(encoding="utf-8")
RUN = re.findall(r"^\*Run\*[^\n]*\n(?:[^\n]+\n)*\n```(\w+)\n(.*?)^```", DOCUMENT, flags=re.M | re.S)


def test_the_document_has_what_is_run_here() -> None:
    assert [language for language, _ in RUN] == ["sh", "sh", "python", "sh"]


@pytest.mark.slow
def test_every_block_that_says_so_runs_as_it_stands(mosquitto: Mosquitto, tmp_path: Path) -> None:
    broker, metrics = str(mosquitto.port), str(free_port())
    # So that the commands are found as they are written, wherever the tests are run from.
    watch = tmp_path / "stream-watch"
    program = json.dumps(command_line("stream-watch"))
    watch.write_text(f"#!{sys.executable}\nimport os, sys\nc = {program}\nos.execv(c[0], c + sys.argv[1:])\n")
    watch.chmod(0o755)

    def run(language: str, block: str) -> list[str]:
        text = block.replace("1883", broker).replace("9464", metrics)
        command = {
            "sh": ["bash", "-ec", f"PATH={tmp_path}:$PATH\n{text}"],
            "python": [sys.executable, "-c", text],
        }[language]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.splitlines()

    publisher = subprocess.Popen(
        command_line(
            *("stream-run", "--demo", "--id", "desk", "--metrics", metrics),
            *("--broker", f"mqtt://127.0.0.1:{broker}", "--view", "none", "--accelerator", "eager"),
        )
    )
    try:
        until_it_serves(f"http://127.0.0.1:{metrics}/metrics", publisher)
        (settled_and_answer, lines, python, scraped) = (run(*block) for block in RUN)
    finally:
        publisher.terminate()
        publisher.wait(30)
    *settled, answer = map(json.loads, settled_and_answer)
    assert [frame["settled"] for frame in settled] == [True] * 3
    assert (answer["command"], answer["obeyed"]) == ("marker", True)
    assert all(json.loads(line)["topic"].startswith("affect/desk/") for line in lines)
    assert len(lines) == 5
    assert len(python) == 30
    assert all(
        re.fullmatch(r" *\d+\.\d\d s  valence [+-]\d\.\d\d  arousal [+-]\d\.\d\d", line) for line in python
    )
    assert [line.split()[0] for line in scraped] == ["affect_frames_total", "affect_settled_total"]


def until_it_serves(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while True:
        assert process.poll() is None
        assert time.monotonic() < deadline
        try:
            if "affect_frames_total" in httpx.get(url, timeout=5).text:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
