"""Sessions through the command lines themselves: a real clip, a live source with keys in a terminal, a kill."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import termios
import time
from typing import TYPE_CHECKING, Any

import av
import pandas as pd
import pytest

from stream.options import DEMO_BUNDLE, DEMO_RECORDING
from stream.session_folder.layout import ESTIMATES, MEDIA, TEMPORARY
from stream.session_folder.read import open_session_folder
from tests.commands import command_line, run_in_own_process

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LIVE = "lavfi:testsrc2=size=320x240:rate=30,realtime[out0];sine=frequency=300,arealtime[out1]"


def wait_for(condition: Callable[[], bool], timeout_s: float = 90.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def lines_of(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def start(*arguments: object, **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command_line("stream-run", *arguments, "--accelerator", "eager", "--bundle", DEMO_BUNDLE), **options
    )


def test_a_clip_becomes_a_session_that_opens_in_one_line_and_changes_no_record(
    fixtures: Path, tmp_path: Path
) -> None:
    clip = fixtures / "clips" / "weekly_address_5s.mp4"
    common = (clip, "--pace", "fast", "--accelerator", "eager", "--bundle", DEMO_BUNDLE, "--view", "none")
    alone = run_in_own_process("stream-run", *common, "--record", tmp_path / "alone.jsonl")
    ran = run_in_own_process(
        *("stream-run", *common, "--record", tmp_path / "beside.jsonl"),
        *("--session", tmp_path / "s", "--participant", "P07", "--notes", "a clip", "--keep-media"),
    )
    assert (alone.returncode, ran.returncode) == (0, 0), alone.stderr + ran.stderr
    assert (tmp_path / "beside.jsonl").read_bytes() == (tmp_path / "alone.jsonl").read_bytes()

    table = pd.read_parquet(tmp_path / "s" / "estimates.parquet")
    record = [json.loads(line) for line in (tmp_path / "alone.jsonl").read_text().splitlines()]
    assert table.frame.tolist() == [line["frame"] for line in record]
    assert table.time_s.tolist() == [line["time_s"] for line in record]
    assert table.settled_valence.tolist() == [line["valence"] for line in record]
    assert table.settled_arousal_spread.tolist() == [line["spread"]["arousal"] for line in record]
    assert table.fold_5_arousal.tolist() == [line["folds"][5][1] for line in record]
    assert table.face.tolist() == [line["present"]["face"] for line in record]
    assert table.provisional_valence.notna().all()

    session = open_session_folder(tmp_path / "s")
    assert not session.was_cut
    assert session.facts["ended"]["by"] == "source"
    assert session.facts["source"]["given"]["width"] == 640
    assert session.facts["totals"]["rows"][ESTIMATES] == len(table)
    with av.open(str(tmp_path / "s" / MEDIA)) as container:
        shown = [float(frame.time or 0) for frame in container.decode(video=0)]
    assert shown == pytest.approx(table.time_s.tolist(), abs=0.0015)

    again = run_in_own_process("stream-run", *common, "--session", tmp_path / "s")
    assert again.returncode == 2
    assert again.stderr.count("\n") == 1
    assert "no session is overwritten" in again.stderr


def test_without_keep_media_there_is_no_picture_and_no_sound(fixtures: Path, tmp_path: Path) -> None:
    clip = fixtures / "clips" / "1001_DFA_HAP_XX.flv"
    ran = run_in_own_process(
        *("stream-run", clip, "--pace", "fast", "--accelerator", "eager", "--bundle", DEMO_BUNDLE),
        *("--view", "none", "--session", tmp_path / "s"),
    )
    assert ran.returncode == 0, ran.stderr
    assert {path.suffix for path in (tmp_path / "s").iterdir()} == {".csv", ".parquet", ".json"}
    assert open_session_folder(tmp_path / "s").facts["media"] is None


def test_a_run_that_is_killed_leaves_a_session_that_opens_and_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    process = start(DEMO_RECORDING, "--session", folder, "--keep-media", "--view", "none")
    wait_for(lambda: lines_of(folder / TEMPORARY[0]) > 150)
    process.send_signal(signal.SIGKILL)
    process.wait()
    given = lines_of(folder / TEMPORARY[0]) - 1
    assert lines_of(folder / ESTIMATES) > 30
    said = run_in_own_process("stream-export", folder, "--to", "praat")
    assert said.returncode == 0, said.stderr
    assert "the run was cut" in said.stderr
    table = pd.read_parquet(folder / "estimates.parquet")
    assert table.frame.tolist() == list(range(given))
    assert table.provisional_valence.notna().all()
    with av.open(str(folder / MEDIA)) as container:
        assert sum(1 for _ in container.decode(video=0)) >= given - 60


def test_a_live_run_is_steered_by_keys_and_gives_the_terminal_back(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    outer, inner = pty.openpty()
    before = termios.tcgetattr(inner)
    try:
        process = start(
            *(LIVE, "--session", folder, "--keep-media", "--view", "plain"),
            stdin=inner,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # A terminal of its own, as a person has.
            preexec_fn=lambda: (os.setsid(), os.close(os.open(os.ttyname(0), os.O_RDWR))),  # type: ignore[func-returns-value]
        )
        wait_for(lambda: lines_of(folder / ESTIMATES) > 20)
        assert not termios.tcgetattr(inner)[3] & termios.ECHO
        os.write(outer, b"m")
        wait_for(lambda: "mark 1" in (folder / "events.csv").read_text())
        os.write(outer, b"p")
        wait_for(lambda: "paused" in (folder / "events.csv").read_text())
        pictures = (folder / MEDIA).stat().st_size
        time.sleep(2.0)
        assert (folder / MEDIA).stat().st_size - pictures < 200_000, "nothing is kept while it is paused"
        os.write(outer, b"p")
        wait_for(lambda: (folder / "events.csv").read_text().count("running") == 2)
        os.write(outer, b"m")
        wait_for(lambda: "mark 2" in (folder / "events.csv").read_text())
        os.write(outer, b"q")
        assert process.wait(60) == 130
        assert termios.tcgetattr(inner) == before
    finally:
        os.close(outer)
        os.close(inner)
    session = open_session_folder(folder)
    assert not session.was_cut
    assert session.facts["state"] == "complete"
    assert session.facts["ended"]["by"] == "request"
    assert [(m.value, m.name) for m in session.markers] == [("mark 1", "terminal"), ("mark 2", "terminal")]
    ((paused_at, resumed_at),) = session.pauses_s
    assert resumed_at - paused_at > 1.5
    captured = session.estimates["captured_at"]
    assert not ((captured > paused_at + 0.5) & (captured < resumed_at - 0.1)).any()


@pytest.mark.parametrize("ended_by", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_stopped_has_a_complete_session(tmp_path: Path, ended_by: signal.Signals) -> None:
    folder = tmp_path / "s"
    process = start(DEMO_RECORDING, "--session", folder, "--view", "none")
    wait_for(lambda: lines_of(folder / ESTIMATES) > 30)
    process.send_signal(ended_by)
    assert process.wait(60) == 128 + ended_by
    session = open_session_folder(folder)
    assert session.facts["state"] == "complete"
    assert session.facts["ended"]["by"] == "request"
    frames = session.estimates["frame"].tolist()
    assert frames == list(range(len(frames)))
    assert not (folder / TEMPORARY[0]).exists()
