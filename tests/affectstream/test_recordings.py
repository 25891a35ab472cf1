"""A whole recording at once is what `stream-run` records of it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

import affectstream
from stream.options import DEMO_RECORDING
from stream.sinks.record import record_line
from tests.affectstream.conftest import running

if TYPE_CHECKING:
    from pathlib import Path

STREAM_RUN = "from stream.commands.run import command; command()"


def record_of_the_command(record: Path, *arguments: str) -> bytes:
    """What `stream-run` with these arguments records."""
    command = [sys.executable, "-c", STREAM_RUN, *arguments, "--pace", "fast", "--broker", "none"]
    subprocess.run([*command, "--view", "none", "--record", str(record)], check=True, timeout=500)
    return record.read_bytes()


@pytest.mark.slow
def test_the_demo_is_what_the_command_records_to_the_byte(tmp_path: Path) -> None:
    recorded = record_of_the_command(tmp_path / "demo.jsonl", "--demo", "--accelerator", "eager")
    result = affectstream.estimate(DEMO_RECORDING, bundle="demo", recogniser="vosk-tiny", accelerator="eager")
    assert b"".join(record_line(e) for e in result.estimates) == recorded
    lines = [json.loads(line) for line in recorded.splitlines()]
    assert [[line["valence"], line["arousal"]] for line in lines] == result.values.round(6).tolist()
    assert result.text.startswith("how was your day")
    assert len(result.words) == 63
    assert result.status.drops == {}


def test_by_default_it_is_what_the_command_does_by_default(talk: Path, tmp_path: Path) -> None:
    recorded = record_of_the_command(tmp_path / "out.jsonl", str(talk))
    result = affectstream.estimate(talk, record=tmp_path / "own.jsonl")
    assert b"".join(record_line(e) for e in result.estimates) == recorded
    assert (tmp_path / "own.jsonl").read_bytes() == recorded


def test_it_says_how_far_it_is(talk: Path, quick: dict[str, Any]) -> None:
    heard: list[int] = []
    result = affectstream.estimate(talk, progress=heard.append, **quick)
    assert heard == list(range(1, len(result) + 1))


def test_progress_is_told_in_the_thread_that_waits_for_it(talk: Path, quick: dict[str, Any]) -> None:
    threads: set[int] = set()
    affectstream.estimate(talk, progress=lambda frames: threads.add(threading.get_ident()), **quick)
    assert threads == {threading.get_ident()}

    def give_up(frames: int) -> None:
        raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        affectstream.estimate(talk, progress=give_up, **quick)
    assert running() == []


async def test_it_works_inside_a_running_event_loop(talk: Path, quick: dict[str, Any]) -> None:
    assert len(affectstream.estimate(talk, **quick)) == 90


def test_one_bundle_serves_several_recordings(talk: Path) -> None:
    shared = affectstream.load_bundle("demo", accelerator="eager")
    first, second = (affectstream.estimate(talk, bundle=shared, recogniser="vosk-tiny") for _ in range(2))
    alone = affectstream.estimate(talk, bundle="demo", recogniser="vosk-tiny", accelerator="eager")
    lines = [[record_line(e) for e in result.estimates] for result in (first, second, alone)]
    assert lines[0] == lines[1] == lines[2]


def test_a_live_source_is_refused_with_what_to_do_instead() -> None:
    with pytest.raises(affectstream.UserError, match=r"loop over affectstream.stream\('camera:0'\)"):
        affectstream.estimate("camera:0")


def test_a_file_that_is_none_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(affectstream.UserError, match="no such file"):
        affectstream.estimate(tmp_path / "missing.mp4")
    assert running() == []


def test_what_a_sink_raises_ends_the_run(talk: Path, quick: dict[str, Any]) -> None:
    class Failing:
        def take(self, estimate: affectstream.Estimate) -> None:
            raise OSError("disk full")

        def close(self) -> None:
            pass

    with pytest.raises(OSError, match="disk full"):
        affectstream.estimate(talk, sinks=[Failing()], **quick)
