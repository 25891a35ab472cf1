"""Latency by stage, over a real run and to the millisecond."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from stream.metrics.sink import BUCKETS_S, MetricsSink
from stream.options import EngineSettings
from tests.stream.brokers import estimate
from tests.stream.live_clips import SlowEstimator
from tests.stream.scripted import Collected, ScriptedSource, clip, frame, make_engine, small_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stream.messages import Estimate
    from stream.sources.events import SourceEvent

AT = 1_700_000_000.0


def observed(sink: MetricsSink, until: str) -> tuple[float, float]:
    """How many frames were timed until there, and the sum of their seconds."""
    values = [
        sink.registry.get_sample_value(f"affect_latency_seconds_{what}", {"until": until})
        for what in ("count", "sum")
    ]
    assert values[0] is not None
    assert values[1] is not None
    return values[0], values[1]


def timed(index: int, **changed: object) -> Estimate:
    return replace(estimate(index), captured_at=AT, perceived_at=AT + 0.01, latency_ms=25.0, **changed)  # type: ignore[arg-type]


def test_a_frame_is_timed_from_its_capture_to_each_stage() -> None:
    sink = MetricsSink(clock=lambda: AT + 2.0)
    sink.offer(timed(0))
    sink.offer(replace(timed(0), settled=True, latency_ms=None, perceived_at=None))
    assert observed(sink, "perceived") == pytest.approx((1, 0.01))
    assert observed(sink, "estimated") == pytest.approx((1, 0.025))
    assert observed(sink, "settled") == pytest.approx((1, 2.0))


def test_what_has_no_time_is_not_timed_and_none_is_below_zero() -> None:
    sink = MetricsSink(clock=lambda: AT - 5.0)
    sink.offer(replace(timed(0), latency_ms=None, perceived_at=None))
    sink.offer(replace(timed(0), settled=True, latency_ms=None, perceived_at=None))
    assert observed(sink, "perceived")[0] == observed(sink, "settled")[0] == 0
    sink.offer(timed(1, settled=False))
    sink.offer(replace(timed(1), settled=True, latency_ms=None, perceived_at=None))
    assert observed(sink, "settled") == (1, 0.0)


def test_buckets_grow() -> None:
    assert list(BUCKETS_S) == sorted(set(BUCKETS_S))


async def test_a_live_run_is_timed_by_stage(tmp_path: Path) -> None:
    def ticks() -> Iterator[SourceEvent]:
        began = time.monotonic()
        for index in range(60):
            time.sleep(max(0.0, began + index / 30 - time.monotonic()))
            yield frame(index, repeated=index % 10 == 9)

    bundle = await asyncio.to_thread(small_bundle, tmp_path / "bundle")
    sink, seen = MetricsSink(), Collected()
    await make_engine(bundle, ScriptedSource(ticks(), live=True, sound=False), [sink, seen]).run()
    own = [each for each in seen.provisional if each.latency_ms is not None]
    assert 0 < len(own) < len(seen.provisional)
    for each in seen.provisional:
        assert (each.perceived_at is None) == (each.latency_ms is None)
    perceived, estimated, settled = (observed(sink, name) for name in ("perceived", "estimated", "settled"))
    assert perceived[0] == estimated[0] == len(own)
    assert settled[0] == len(seen.settled)
    assert 0 < perceived[1] < estimated[1] == pytest.approx(sum(each.latency_ms or 0 for each in own) / 1e3)
    assert all(each.perceived_at is None for each in seen.settled)
    assert sink.registry.get_sample_value("affect_running") == 0
    assert sink.registry.get_sample_value("affect_frames_total") == len(seen.provisional)


async def test_what_waits_for_a_slow_stage_shows_as_a_depth(tmp_path: Path) -> None:
    def ticks() -> Iterator[SourceEvent]:
        began = time.monotonic()
        for index in range(90):
            time.sleep(max(0.0, began + index / 30 - time.monotonic()))
            yield frame(index)

    bundle = await asyncio.to_thread(small_bundle, tmp_path / "bundle")
    seen, slow = Collected(), SlowEstimator(bundle, None)
    slow.seconds = 0.2
    await make_engine(bundle, ScriptedSource(ticks(), live=True, sound=False), [seen], estimator=slow).run()
    assert any(each.counters.get("perceived_waiting", 0) > 0 for each in seen.statuses)
    assert seen.statuses[-1].counters.get("perceived_waiting", 0) == 0


async def test_a_replay_without_a_clock_has_no_times(tmp_path: Path) -> None:
    bundle = await asyncio.to_thread(small_bundle, tmp_path / "bundle")
    sink = MetricsSink()
    await make_engine(bundle, ScriptedSource(clip(30)), [sink], settings=EngineSettings(pace="fast")).run()
    assert [observed(sink, name)[0] for name in ("perceived", "estimated", "settled")] == [0, 0, 0]
    assert sink.registry.get_sample_value("affect_settled_total") == 30


async def test_each_sink_has_a_registry_of_its_own() -> None:
    first, second = MetricsSink(), MetricsSink()
    first.offer(timed(0))
    assert observed(second, "estimated")[0] == 0
