"""The Node-RED flow, in a real Node-RED where there is one: a second's mean of what was settled goes to the lamp."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.commands import run_in_own_process
from tests.stream.broker_fixtures import mosquitto, own_state_folder
from tests.stream.brokers import free_port

if TYPE_CHECKING:
    from tests.stream.brokers import Mosquitto

__all__ = ["mosquitto", "own_state_folder"]

FLOW = Path(__file__).resolve().parent.parent.parent / "examples" / "node-red" / "flow.json"
NODE_RED = os.environ.get("AFFECT_NODE_RED") or shutil.which("node-red")


def test_the_flow_has_no_address_but_this_machines() -> None:
    nodes = json.loads(FLOW.read_text(encoding="utf-8"))
    assert {node["broker"] for node in nodes if node["type"] == "mqtt-broker"} == {"127.0.0.1"}
    assert {node["topic"] for node in nodes if node["type"] == "mqtt in"} == {"affect/+/settled"}


@pytest.mark.slow
@pytest.mark.skipif(NODE_RED is None, reason="no Node-RED: npm install node-red; AFFECT_NODE_RED names it")
def test_the_lamp_is_told_each_seconds_mean(tmp_path: Path, mosquitto: Mosquitto) -> None:
    assert NODE_RED is not None
    folder, record, broker = tmp_path / "node-red", tmp_path / "record.jsonl", str(mosquitto.port)
    folder.mkdir()
    (folder / "flow.json").write_text(FLOW.read_text(encoding="utf-8").replace('"1883"', f'"{broker}"'))
    server = subprocess.Popen(
        [NODE_RED, "--userDir", folder, "--port", str(free_port()), folder / "flow.json"],
        stdout=subprocess.PIPE,
        text=True,
    )
    watchdog = threading.Timer(120, server.kill)
    watchdog.start()
    lamp = subprocess.Popen(
        ["mosquitto_sub", "-p", broker, "-t", "room/lamp/desk", "-C", "31", "-W", "120"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        for line in server.stdout:
            if "Connected to broker" in line:
                break
        else:
            pytest.fail("Node-RED did not connect")
        done = run_in_own_process(
            *("stream-run", "--demo", "--pace", "fast", "--accelerator", "eager", "--view", "none"),
            *("--broker", f"mqtt://127.0.0.1:{broker}", "--id", "desk", "--record", record),
        )
        assert done.returncode == 0, done.stderr
        told, _ = lamp.communicate(timeout=60)
    finally:
        watchdog.cancel()
        for process in (server, lamp):
            process.terminate()
            process.wait(20)
    seconds: dict[int, list[float]] = defaultdict(list)
    for row in map(json.loads, record.read_text().splitlines()):
        if row["present"]["face"]:
            seconds[int(row["time_s"])].append(row["valence"])
    heard = {message["time_s"]: message["valence"] for message in map(json.loads, told.splitlines())}
    assert heard == pytest.approx({s: sum(v) / len(v) for s, v in seconds.items() if s in heard})
    assert len(heard) == 31
