"""The examples run as their first lines say: real processes, the demo recording, a real broker on a real socket."""

from __future__ import annotations

import asyncio
import csv
import json
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from stream.broker.embedded import EmbeddedBroker
from stream.options import DEMO_BUNDLE, DEMO_RECORDING
from tests.stream.brokers import free_port

REPOSITORY = Path(__file__).resolve().parent.parent.parent
EXAMPLES = REPOSITORY / "examples"
DEMO_FRAMES = 960
STREAM_RUN = "from stream.commands.run import command; command()"


@pytest.fixture(autouse=True)
def _own_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outboxes go to the test's own folder, in the processes that it starts."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def example(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *map(str, arguments)]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=240, check=False)


def test_every_example_is_tested_here() -> None:
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert names == {"subscribe", "custom_sink", "recording_to_csv"}
    assert {path.stem for path in EXAMPLES.glob("*.ipynb")} == {"recording", "live"}


async def test_a_subscriber_prints_what_a_run_publishes() -> None:
    """It is there first, as one that starts with the machine, and ends by itself after the lines it was asked for."""
    async with EmbeddedBroker(0) as broker:
        port = str(broker.address.port)
        subscriber = await asyncio.create_subprocess_exec(
            *(sys.executable, str(EXAMPLES / "subscribe.py"), "--port", port, "--count", "30"),
            cwd=REPOSITORY,
            stdout=asyncio.subprocess.PIPE,
        )
        publisher = await asyncio.create_subprocess_exec(
            *(
                sys.executable,
                "-c",
                STREAM_RUN,
                "--demo",
                "--broker",
                f"mqtt://127.0.0.1:{port}",
                "--id",
                "me",
            ),
            *("--view", "none", "--accelerator", "eager"),
            cwd=REPOSITORY,
        )
        try:
            async with asyncio.timeout(120):
                printed, _ = await subscriber.communicate()
        finally:
            for process in (subscriber, publisher):
                if process.returncode is None:
                    process.terminate()
                await process.wait()
    lines = printed.decode().splitlines()
    assert subscriber.returncode == 0
    assert lines[0] == "me is online"
    estimates = [
        re.fullmatch(r"me at +([\d.]+) s: valence ([+-][\d.]+) .*, arousal ([+-][\d.]+) .*", line)
        for line in lines[1:]
    ]
    assert len(estimates) == 30
    assert all(estimates), lines
    found = [tuple(map(float, match.groups())) for match in estimates if match is not None]
    assert [time_s for time_s, _, _ in found] == sorted(time_s for time_s, _, _ in found)
    assert all(-1 <= value <= 1 for _, valence, arousal in found for value in (valence, arousal))


def test_a_subscriber_without_a_broker_says_so_in_one_line() -> None:
    ran = example("subscribe", "--port", str(free_port()))
    assert ran.returncode == 2
    assert ran.stderr.count("\n") == 1
    assert "stream-run --demo" in ran.stderr


@pytest.mark.slow
def test_a_recordings_table_holds_what_a_run_records(tmp_path: Path) -> None:
    table, record = tmp_path / "demo.csv", tmp_path / "demo.jsonl"
    ran = example(
        "recording_to_csv", DEMO_RECORDING, table, "--recogniser", "vosk-tiny", "--bundle", DEMO_BUNDLE
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == f"{table}: {DEMO_FRAMES} frames\n"
    subprocess.run(
        [
            *(sys.executable, "-c", STREAM_RUN, "--demo", "--pace", "fast", "--broker", "none"),
            *("--view", "none", "--accelerator", "eager", "--record", str(record)),
        ],
        cwd=REPOSITORY,
        timeout=240,
        check=True,
    )
    recorded = [json.loads(line) for line in record.read_text().splitlines()]
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(recorded) == DEMO_FRAMES
    for row, line in zip(rows, recorded, strict=True):
        assert int(row["frame"]) == line["frame"]
        assert float(row["time_s"]) == line["time_s"]
        for target in ("valence", "arousal"):
            assert float(row[target]) == line[target]
            assert float(row[f"{target}_spread"]) == line["spread"][target]


def test_a_recording_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    ran = example("recording_to_csv", tmp_path / "missing.mp4", tmp_path / "out.csv", "--bundle", DEMO_BUNDLE)
    assert ran.returncode == 2
    assert ran.stderr.count("\n") == 1
    assert "missing.mp4" in ran.stderr


@pytest.mark.slow
def test_a_sink_of_ones_own_is_told_of_every_settled_frame() -> None:
    """The demo's person is excited in the middle of the recording, and twice in all."""
    ran = example("custom_sink", DEMO_RECORDING, "--above", "0.7", "--bundle", DEMO_BUNDLE)
    assert ran.returncode == 0, ran.stderr
    *told, last = ran.stdout.splitlines()
    assert last == f"{DEMO_FRAMES} frames, {len(told)} changes"
    states = [
        re.fullmatch(r" *([\d.]+) s  (excited|calm again) \(arousal [+-][\d.]+\)", line) for line in told
    ]
    assert all(states), told
    turns = [match[2] for match in states if match is not None]
    assert turns[:2] == ["excited", "calm again"]
    assert all(before != after for before, after in pairwise(turns))
