"""A session while it is kept: a row a frame, words and events, whole whatever the disk does, nothing overwritten."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import resource
import signal
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from models.errors import UserError
from stream.messages import InputStatus, Marker, Transcript
from stream.session_folder.layout import (
    ESTIMATES,
    EVENT_COLUMNS,
    LOCK,
    TEMPORARY,
    WORD_COLUMNS,
    estimate_columns,
)
from stream.session_folder.read import open_session_folder
from stream.session_folder.sink import SessionSink
from stream.sinks.base import attached
from tests.stream.brokers import until
from tests.stream.sessions import FOLDS, WORDS, estimate, facts, keep_session, recording, running

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_session_has_a_row_a_frame_with_both_answers_and_each_fold(tmp_path: Path) -> None:
    session = await keep_session(tmp_path / "s", 90, unsettled=10)
    table = pd.read_parquet(tmp_path / "s" / "estimates.parquet")
    assert list(table.columns) == [column.name for column in estimate_columns(FOLDS)]
    assert table.frame.tolist() == list(range(90))
    assert table.time_s.iloc[30] == pytest.approx(1.0)
    assert (table.settled_valence - table.provisional_valence)[:80].to_list() == pytest.approx([0.1] * 80)
    assert table.settled_valence[80:].isna().all()
    assert table.provisional_valence.notna().all()
    assert table.fold_1_arousal.eq(0.3).all()
    assert table.settled_arousal_spread[:80].eq(0.1).all()
    assert table.face.dtype == bool
    assert table.voice.tolist() == [True] * 30 + [False] * 60
    assert table.rung.tolist() == ["half-folds" if frame == 7 else "full" for frame in range(90)]
    assert table.latency_ms.eq(20.5).all()
    offset = table.captured_at - table.captured_monotonic_s
    assert offset.to_list() == pytest.approx([time.time() - time.monotonic()] * 90, abs=0.01)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "s" / ESTIMATES), table, check_dtype=False)
    assert session.facts["state"] == "complete"
    assert session.facts["ended"]["by"] == "source"
    assert not session.notes
    assert sorted(p.name for p in (tmp_path / "s").iterdir()) == [
        *("estimates.csv", "estimates.parquet", "events.csv", "session.json", "words.csv")
    ]


async def test_words_and_events_are_tables_too(tmp_path: Path) -> None:
    lost = InputStatus("lost", "rtsp://me:word@host/cam went away", "plug it in")
    async with recording(tmp_path / "s") as outlet:
        outlet.offer(estimate(0, settled=False))
        outlet.offer_transcript(Transcript(0, WORDS[:1], False))
        outlet.offer_transcript(Transcript(0, WORDS, True))
        outlet.offer_transcript(Transcript(1, WORDS[:1], False))
        outlet.offer_marker(Marker("now, then", 1_700_000_010.0, 10.0, "mqtt"))
        outlet.offer_status(replace(running(), phase="paused"))
        outlet.offer_status(replace(running(), drops={"estimate_busy": 3}, degraded="one-fold"))
        outlet.offer_status(replace(running(), drops={"estimate_busy": 5}, inputs={"camera": lost}))
    session = open_session_folder(tmp_path / "s")
    assert [(w.utterance, w.text, w.start_s, w.confidence, w.settled) for w in session.words] == [
        (0, "hello", 0.2, 0.9, True),
        (0, 'quite "nice", really', 0.5, None, True),
        (1, "hello", 0.2, 0.9, False),
    ]
    assert [(e.kind, e.name, e.value, e.time_s) for e in session.events] == [
        ("phase", "run", "running", None),
        ("input", "camera", "ok", None),
        ("input", "microphone", "ok", None),
        ("marker", "mqtt", "now, then", 10.0),
        ("phase", "run", "paused", 0.0),
        ("phase", "run", "running", 0.0),
        ("rung", "run", "one-fold", 0.0),
        ("drop", "estimate_busy", "3", 0.0),
        ("input", "camera", "lost", 0.0),
        ("rung", "run", "full", 0.0),
        ("drop", "estimate_busy", "2", 0.0),
    ]
    assert len(session.pauses_s) == 1
    assert session.events[8].detail == "rtsp://***@host/cam went away; plug it in"
    for name, columns in (("words.csv", WORD_COLUMNS), ("events.csv", EVENT_COLUMNS)):
        table = pd.read_csv(tmp_path / "s" / name)
        assert list(table.columns) == [column.name for column in columns]
        assert list(columns)
        assert set(session.facts["tables"][name]) == set(table.columns)


async def test_rows_are_on_disk_while_the_run_goes_on_and_nobody_mends_it_meanwhile(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    async with recording(folder) as outlet:
        outlet.offer(estimate(0, settled=False))
        outlet.offer(estimate(1, settled=False))
        outlet.offer(estimate(0, settled=True))
        await until(lambda: (folder / ESTIMATES).read_text().count("\n") == 2)
        await until(lambda: (folder / TEMPORARY[0]).read_text().count("\n") == 3)
        with pytest.raises(UserError, match="still being recorded"):
            open_session_folder(folder)
        assert json.loads((folder / "session.json").read_text())["state"] == "recording"
    assert not (folder / LOCK).exists()
    assert len(open_session_folder(folder).estimates["frame"]) == 2


async def test_an_earlier_session_is_refused_and_kept(tmp_path: Path) -> None:
    await keep_session(tmp_path / "s", 3)
    before = {path.name: path.read_bytes() for path in (tmp_path / "s").iterdir()}
    with pytest.raises(UserError, match="no session is overwritten"):
        await keep_session(tmp_path / "s", 5)
    assert {path.name: path.read_bytes() for path in (tmp_path / "s").iterdir()} == before
    (tmp_path / "empty").mkdir()
    assert len((await keep_session(tmp_path / "empty", 3)).estimates["frame"]) == 3


async def test_a_place_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="give a"):
        await keep_session(tmp_path / "file" / "s")
    with pytest.raises(UserError, match="exists already"):
        await keep_session(tmp_path / "file")


async def test_a_session_says_how_its_run_ended(tmp_path: Path) -> None:
    ends = {
        "source": (None, None),
        "request": (asyncio.CancelledError, asyncio.CancelledError()),
        "failure": (OSError, OSError("rtsp://me:word@host is gone")),
    }
    for by, (kind, error) in ends.items():
        sink = SessionSink(tmp_path / by, facts())
        sink.note_end(kind, error, None)
        async with attached([sink]) as outlet:
            outlet.offer(estimate(0, settled=True))
        sink.note_end(kind, error, None)
        session = open_session_folder(tmp_path / by)
        assert session.facts["ended"]["by"] == by
        assert ("rtsp://***@host is gone" in "".join(session.notes)) == (by == "failure")


async def offer_at_once(sink: SessionSink, frames: int) -> None:
    """A whole run in which the sink gets no turn."""
    async with attached([sink]) as outlet:
        for frame in range(frames):
            outlet.offer(estimate(frame, settled=True))


async def fill_the_disk(sink: SessionSink, folder: Path) -> None:
    """A run whose files may become little larger than they are after 21 frames."""
    async with attached([sink]) as outlet:
        for frame in range(40):
            outlet.offer(estimate(frame, settled=False))
            outlet.offer(estimate(frame, settled=True))
            if frame == 20:
                await until(lambda: (folder / ESTIMATES).read_text().count("\n") == 22)
                size = (folder / ESTIMATES).stat().st_size
                hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
                resource.setrlimit(resource.RLIMIT_FSIZE, (size + 300, hard))
        await until(lambda: sink.drops.get("session_failed", 0) > 0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


@pytest.mark.skipif(sys.platform == "win32", reason="needs a file size limit")
async def test_a_disk_that_fills_up_keeps_what_is_on_it_and_counts_the_rest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "s"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    sink = SessionSink(folder, facts())
    try:
        with pytest.raises(UserError, match=r"not complete .*\d+ frames are on disk, \d+ rows") as refused:
            await fill_the_disk(sink, folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert "make room there" in str(refused.value)
    sink.note_end(UserError, refused.value, None)
    assert "is no longer written" in caplog.text
    with (folder / ESTIMATES).open(newline="") as file:
        rows = list(csv.reader(file))
    assert [row[0] for row in rows[1:22]] == [str(frame) for frame in range(21)]
    assert {len(row) for row in rows} == {len(rows[0])}
    session = open_session_folder(folder)
    frames = session.estimates["frame"].tolist()
    assert frames == list(range(len(frames)))
    assert len(frames) >= 21
    assert session.facts["state"] == "incomplete"
    assert len(session.notes) == 1
    assert "session_failed" in session.notes[0]


async def test_a_disk_that_is_too_slow_is_waited_for_or_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream.session_folder.sink.QUEUE_ROWS", 20)
    sink = SessionSink(tmp_path / "a", facts())
    with pytest.raises(UserError, match=r"the disk was too slow"):
        await offer_at_once(sink, 30)
    assert sink.drops == {"session_queue": 10}
    async with attached([SessionSink(tmp_path / "b", facts())]) as outlet:
        for frame in range(200):
            await outlet.ready()
            outlet.offer(estimate(frame, settled=True))
    assert len(open_session_folder(tmp_path / "b").estimates["frame"]) == 200


async def test_what_settles_long_after_it_was_forgotten_still_has_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream.session_folder.rows.MOST_UNSETTLED", 4)
    session = await keep_session(tmp_path / "s", 10)
    assert session.estimates["frame"].tolist() == list(range(10))
    assert pd.isna(session.estimates["provisional_valence"][0])
    assert os.listdir(tmp_path) == ["s"]


async def test_what_is_not_final_does_not_grow_with_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream.session_folder.sink.MOST_UNSETTLED_ROWS", 100)
    folder = tmp_path / "s"
    async with recording(folder) as outlet:
        for frame in range(1000):
            outlet.offer(estimate(frame, settled=False))
            if frame >= 30:
                outlet.offer(estimate(frame - 30, settled=True))
            await outlet.ready()
            if frame % 20 == 0:
                await asyncio.sleep(0.005)
        await until(lambda: (folder / ESTIMATES).read_text().count("\n") == 971)
        kept = (folder / TEMPORARY[0]).read_text().splitlines()
        assert len(kept) < 200
        assert kept[0].startswith("frame,time_s")
        assert [int(row.split(",")[0]) for row in kept[-30:]] == list(range(970, 1000))
    session = open_session_folder(folder)
    assert session.estimates["frame"].tolist() == list(range(1000))


async def test_a_run_that_never_began_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    sink = SessionSink(tmp_path / "s", facts())
    async with attached([sink]) as outlet:
        outlet.offer_status(running())
    sink.note_end(UserError, UserError("the camera gave no picture"), None)
    assert not (tmp_path / "s").exists()
    assert len((await keep_session(tmp_path / "s", 3)).estimates["frame"]) == 3
