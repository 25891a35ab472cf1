"""The recorder: what was settled is on disk, whole, whatever ends the run."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from models.errors import UserError
from stream.messages import Transcript
from stream.sinks.base import attached
from stream.sinks.record import RecordSink, record_line
from tests.stream.brokers import estimate, status, until

if TYPE_CHECKING:
    from collections.abc import Iterable


async def record(sink: RecordSink, frames: Iterable[int]) -> None:
    """Offer settled frames, all at once."""
    async with attached([sink]) as outlet:
        for frame in frames:
            outlet.offer(estimate(frame, settled=True))


async def test_one_line_per_settled_estimate_in_order(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    sink = RecordSink(path)
    async with attached([sink]) as outlet:
        outlet.offer_status(status())
        outlet.offer_transcript(Transcript(0, (), True))
        for frame in range(1000):
            await outlet.ready()
            outlet.offer(estimate(frame))
            outlet.offer(estimate(frame, settled=True))
    lines = path.read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        estimate(f, settled=True).to_record() for f in range(1000)
    ]
    assert sink.counters == {"record_lines": 1000}
    assert sink.drops == {}


async def test_lines_are_on_disk_while_the_run_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    async with attached([RecordSink(path)]) as outlet:
        outlet.offer(estimate(0, settled=True))
        await until(lambda: path.read_bytes() == record_line(estimate(0, settled=True)))


async def test_the_same_estimates_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        async with attached([RecordSink(tmp_path / name)]) as outlet:
            for frame in range(50):
                outlet.offer(estimate(frame, settled=True))
                if name == "b":
                    await asyncio.sleep(0)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


async def test_an_earlier_record_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("precious\n")
    with pytest.raises(UserError, match=r"out\.jsonl exists already.*--overwrite"):
        async with attached([RecordSink(path)]):
            pytest.fail("must not start")
    assert path.read_text() == "precious\n"
    async with attached([RecordSink(path, overwrite=True)]) as outlet:
        outlet.offer(estimate(0, settled=True))
    assert path.read_bytes() == record_line(estimate(0, settled=True))


async def test_an_empty_file_left_by_a_run_that_failed_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.touch()
    async with attached([RecordSink(path)]) as outlet:
        outlet.offer(estimate(0, settled=True))
    assert path.stat().st_size > 0


async def test_a_place_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    for path in (tmp_path / "no" / "such" / "out.jsonl", tmp_path):
        with pytest.raises(UserError, match=r"cannot record to|exists already"):
            async with attached([RecordSink(path)]):
                pytest.fail("must not start")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
async def test_a_full_disk_ends_in_one_clear_line_and_is_counted() -> None:
    sink = RecordSink(Path("/dev/full"), overwrite=True)
    with pytest.raises(UserError, match=r"not complete \(No space left on device\): 0 lines .* 20 are lost"):
        await record(sink, range(20))
    assert sink.drops == {"record_failed": 20}


@pytest.mark.skipif(sys.platform == "win32", reason="needs a file size limit")
async def test_a_disk_that_fills_up_keeps_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    line = len(record_line(estimate(10, settled=True)))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    sink = RecordSink(path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (line * 7 // 2, before[1]))
    try:
        with pytest.raises(UserError, match=r"not complete .*3 lines are on disk, 17 are lost"):
            await record(sink, range(10, 30))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert [json.loads(row)["frame"] for row in path.read_text().splitlines()] == [10, 11, 12]
    assert path.read_bytes().endswith(b"\n")


async def test_a_disk_that_is_too_slow_is_waited_for_or_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream.sinks.record.QUEUE_LINES", 10)
    sink = RecordSink(tmp_path / "out.jsonl")
    with pytest.raises(UserError, match=r"the disk was too slow\): 10 lines are on disk, 5 are lost"):
        await record(sink, range(15))
    assert sink.drops == {"record_queue": 5}


async def test_who_waits_until_it_is_ready_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream.sinks.record.QUEUE_LINES", 10)
    sink = RecordSink(tmp_path / "out.jsonl")
    async with attached([sink]) as outlet:
        for frame in range(200):
            await outlet.ready()
            outlet.offer(estimate(frame, settled=True))
    assert sink.counters == {"record_lines": 200}


RECORDER = """
import asyncio, sys
from pathlib import Path
from tests.stream.brokers import estimate
from stream.broker.connection import run
from stream.sinks.base import attached
from stream.sinks.record import RecordSink

async def main():
    async with attached([RecordSink(Path(sys.argv[1]))]) as outlet:
        for frame in range(1_000_000):
            await outlet.ready()
            outlet.offer(estimate(frame, settled=True))
            print(frame, flush=True)
            await asyncio.sleep(0.0005)

try:
    run(main())
except KeyboardInterrupt:
    sys.exit(130)
"""


async def test_after_ctrl_c_every_line_given_is_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", RECORDER, str(path)),
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    for _ in range(100):
        await process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, complaints = await process.communicate()
    assert process.returncode == 130
    assert complaints == b""
    given = max([100, *(int(frame) + 1 for frame in out.split())])
    frames = [json.loads(line)["frame"] for line in path.read_text().splitlines()]
    assert frames in (list(range(given)), list(range(given + 1)))
