"""Estimates over the real liblsl: values, stamps, rate, restarts; and an XDF file that pyxdf reads."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from stream.lsl.outlets import CHANNELS, sample
from stream.lsl.sink import LslSink
from stream.sinks.base import attached
from tests.commands import command_line
from tests.stream.brokers import estimate, until
from tests.stream.lsl.recorder import Recorded, recording, write_xdf
from tests.stream.lsl.test_outlets import DESCRIPTION
from tests.stream.scripted import Collected, ScriptedSource, frame, make_engine, small_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stream.sources.events import SourceEvent

TICK = 1 / 30


def recorded(pylsl: Any, name: str, timeout_s: float = 20) -> Recorded:
    """A stream of that name, listened to."""
    (info,) = pylsl.resolve_byprop("name", name, 1, timeout_s)
    return Recorded(pylsl, info)


async def test_values_arrive_with_the_times_of_capture(pylsl: Any) -> None:
    sink = LslSink(replace(DESCRIPTION, name="values"))
    async with attached([sink]) as outlet:
        streams = [await asyncio.to_thread(recorded, pylsl, name) for name in ("values", "values settled")]
        await until(lambda: sink.counters["lsl_listened"] == 2)
        given, taken_at = [], []
        with recording(*streams):
            for index in range(60):
                given.append(replace(estimate(index, valence=index / 60), captured_at=time.time()))
                taken_at.append(pylsl.local_clock())
                await asyncio.sleep(TICK)
                outlet.offer(given[-1])
                if index % 20 == 19:
                    for earlier in given[-20:]:
                        outlet.offer(replace(earlier, settled=True))
            await until(lambda: all(len(stream.samples) == 60 for stream in streams))
    for stream in streams:
        assert stream.samples == [pytest.approx(sample(each), abs=1e-7) for each in given]
        assert np.abs(np.array(stream.stamps) - taken_at).max() < 0.005
    assert streams[0].stamps == streams[1].stamps
    assert sink.counters["lsl_pushed"] == 120
    assert sink.drops == {}


async def test_a_live_run_is_published_at_its_rate_stamped_within_a_frame_of_capture(
    pylsl: Any, tmp_path: Path
) -> None:
    captured: list[float] = []

    def ticks() -> Iterator[SourceEvent]:
        began = time.monotonic()
        for index in range(120):
            time.sleep(max(0.0, began + index * TICK - time.monotonic()))
            captured.append(pylsl.local_clock())
            yield frame(index)

    sink, seen = LslSink(replace(DESCRIPTION, name="live")), Collected()
    await sink.open()
    stream, settled = [await asyncio.to_thread(recorded, pylsl, name) for name in ("live", "live settled")]
    await until(lambda: sink.counters["lsl_listened"] == 2)
    sink.open = _nothing  # type: ignore[method-assign]
    source = ScriptedSource(ticks(), live=True, sound=False)
    bundle = await asyncio.to_thread(small_bundle, tmp_path / "bundle")
    with recording(stream, settled):
        await make_engine(bundle, source, [sink, seen]).run()
        await until(lambda: len(settled.samples) == len(seen.settled))
    assert len(stream.samples) == len(seen.provisional) > 90
    expected = [captured[each.frame] for each in seen.provisional]
    assert np.abs(np.array(stream.stamps) - expected).max() < TICK
    rate = (seen.provisional[-1].frame - seen.provisional[0].frame) / (stream.stamps[-1] - stream.stamps[0])
    assert rate == pytest.approx(30, rel=0.05)
    by_frame = dict(zip((each.frame for each in seen.provisional), stream.stamps, strict=True))
    assert settled.stamps == [by_frame[each.frame] for each in seen.settled]
    assert settled.samples == [pytest.approx(sample(each), abs=1e-6) for each in seen.settled]


async def _nothing() -> None:
    """It is open already."""


async def test_a_recorder_finds_a_stream_again_after_a_restart(pylsl: Any) -> None:
    description = replace(DESCRIPTION, name="restarted")
    first = LslSink(description)
    async with attached([first]) as outlet:
        stream = await asyncio.to_thread(recorded, pylsl, "restarted")
        await until(lambda: first.counters["lsl_listened"] == 1)
        with recording(stream):
            outlet.offer(estimate(0))
            await until(lambda: stream.samples)
    second = LslSink(replace(description, accelerator="eager"))
    async with attached([second]) as outlet:
        with recording(stream):
            await until(lambda: second.counters["lsl_listened"] == 1, 30)
            outlet.offer(estimate(1, valence=0.75))
            await until(lambda: len(stream.samples) == 2)
    assert stream.samples[1][0] == 0.75


async def test_what_nobody_takes_delays_nobody(pylsl: Any) -> None:
    sink = LslSink(replace(DESCRIPTION, name="unheard"))
    async with attached([sink]) as outlet:
        lagging = await asyncio.to_thread(recorded, pylsl, "unheard")
        began = time.monotonic()
        for index in range(3000):
            outlet.offer(estimate(index))
        assert time.monotonic() - began < 2.0
        await sink.ready()
        del lagging


@pytest.mark.slow
def test_a_real_clip_becomes_an_xdf_file_that_lines_up_with_its_record(
    pylsl: Any, fixtures: Path, tmp_path: Path
) -> None:
    import pyxdf

    record = tmp_path / "record.jsonl"
    arguments = [fixtures / "clips" / "weekly_address_5s.mp4", "--bundle", "demo", "--accelerator", "eager"]
    run = subprocess.Popen(
        command_line(
            "stream-run", *arguments, "--lsl", "--lsl-name", "clip", "--view", "none", "--record", record
        ),
        env=os.environ,
    )
    streams = [recorded(pylsl, name, 180) for name in ("clip", "clip settled")]
    with recording(*streams):
        assert run.wait(timeout=180) == 0
    rows = [json.loads(line) for line in record.read_text().splitlines()]
    file = tmp_path / "clip.xdf"
    write_xdf(file, streams)
    read, header = pyxdf.load_xdf(file, dejitter_timestamps=False)
    assert header["info"]["version"] == ["1.0"]
    provisional, settled = (
        next(each for each in read if each["info"]["name"] == [name]) for name in ("clip", "clip settled")
    )
    labels = [channel["label"][0] for channel in settled["info"]["desc"][0]["channels"][0]["channel"]]
    assert labels == [channel.label for channel in CHANNELS]
    assert settled["info"]["desc"][0]["affectstream"][0]["bundle"][0]["name"] == ["demo"]
    assert float(provisional["info"]["nominal_srate"][0]) == pytest.approx(30_000 / 1001)
    # A recorder misses what was sent before it had connected, and nothing after that.
    heard = len(settled["time_stamps"])
    assert len(rows) - 45 < heard <= len(rows)
    assert settled["time_series"][:, :2] == pytest.approx(
        np.array([[row["valence"], row["arousal"]] for row in rows[-heard:]]), abs=1e-6
    )
    times = np.array([row["time_s"] for row in rows[-heard:]])
    offsets = settled["time_stamps"] - times
    assert np.abs(offsets - np.median(offsets)).max() < TICK
    shared = min(heard, len(provisional["time_stamps"]))
    assert provisional["time_stamps"][-shared:] == pytest.approx(settled["time_stamps"][-shared:], abs=1e-3)
    assert len(provisional["time_stamps"]) / np.ptp(provisional["time_stamps"]) == pytest.approx(30, rel=0.05)
    assert np.median(np.diff(provisional["time_stamps"])) == pytest.approx(1001 / 30_000, rel=0.01)
