"""What the engine promises whatever source and sinks do: order, bounds, counts, and what it says of itself."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from models.speech.words import Settled, SpeechEvent
from stream.estimation.estimator import Estimator, EstimatorState
from stream.messages import Estimate, InputStatus
from stream.options import EngineSettings
from stream.sources.events import AudioChunk, SourceEvent, VideoFrame
from tests.stream.live_clips import TICK, SlowEstimator, live_clip
from tests.stream.scripted import (
    Collected,
    ScriptedSource,
    clip,
    frame,
    make_engine,
    small_bundle,
    turned,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from models.bundle.load import Bundle
    from stream.estimation.batching import Moment


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return small_bundle(tmp_path_factory.mktemp("bundles") / "small")


# Order and completeness


async def test_every_frame_of_a_recording_is_answered_at_once_and_settled_once_in_order(
    bundle: Bundle,
) -> None:
    seen = Collected()
    summary = await make_engine(bundle, ScriptedSource(clip(90)), [seen]).run()
    assert [e.frame for e in seen.provisional] == list(range(90))
    assert [e.frame for e in seen.settled] == list(range(90))
    for i in range(90):
        assert seen.order.index(("provisional", i)) < seen.order.index(("settled", i))
    assert (summary.frames, summary.settled) == (90, 90)
    assert summary.status.drops == {}
    assert summary.status.counters.get("settled_early", 0) == 0
    assert all(e.degraded is None for e in seen.settled)


class SettlingAtOnce:
    """A recogniser that makes up its mind about everything at frame 199, or the first after it."""

    late_samples = dropped_chunks = waiting_chunks = 0
    decided = False

    def hear(self, chunk: AudioChunk) -> None:
        """Says nothing."""

    def keep_up(self, time_s: float) -> list[SpeechEvent]:
        if self.decided or round(time_s / TICK) < 199:
            return []
        self.decided = True
        return [Settled(199 * TICK)]

    def finish(self) -> list[SpeechEvent]:
        return []

    def close(self) -> None:
        """Has nothing to close."""


async def test_what_settles_together_does_not_hold_up_the_next_frame_of_a_live_source(bundle: Bundle) -> None:
    seen = Collected()

    def events() -> Iterator[SourceEvent]:
        for i in range(260):
            time.sleep(0.01)
            yield frame(i)

    source = ScriptedSource(events(), live=True)
    await make_engine(bundle, source, [seen], speech=SettlingAtOnce()).run()
    burst = seen.order.index(("settled", 0))
    kind, index = seen.order[burst - 1]
    assert kind == "provisional", "the provisional estimate goes out first"
    assert index >= 199
    following = [kind for kind, _ in seen.order[burst : burst + 150]]
    assert following.count("provisional") >= 5, "frames that came meanwhile went before the rest of the burst"
    assert [e.frame for e in seen.settled] == [e.frame for e in seen.provisional]


async def test_a_recording_without_sound_settles_as_it_goes(bundle: Bundle) -> None:
    seen = Collected()
    await make_engine(bundle, ScriptedSource((frame(i) for i in range(20)), sound=False), [seen]).run()
    batches = [range(first, min(first + 3, 20)) for first in range(0, 20, 3)]
    assert seen.order == [(kind, i) for b in batches for kind in ("provisional", "settled") for i in b]


class Watching(Estimator):
    """An estimator that notes which frames it is given at once."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle, None)
        self.batches: list[list[int]] = []

    def answer(
        self, state: EstimatorState, moments: Sequence[Moment]
    ) -> tuple[EstimatorState, tuple[Estimate, ...]]:
        frames = [m.features.index for m in moments if m.features is not None]
        self.batches += [frames] if frames else []
        return super().answer(state, moments)


@pytest.mark.parametrize(("target_ms", "size"), [(0.0, 1), (70.0, 3), (500.0, 16)])
async def test_a_recordings_batches_are_cut_by_number_whatever_the_pace(
    bundle: Bundle, target_ms: float, size: int
) -> None:
    for pace in ("fast", "live"):
        estimator = Watching(bundle)
        seen = Collected()
        settings = EngineSettings(pace=pace, latency_target_ms=target_ms)
        await make_engine(
            bundle, ScriptedSource(clip(40)), [seen], estimator=estimator, settings=settings
        ).run()
        assert estimator.batches == [list(range(i, min(i + size, 40))) for i in range(0, 40, size)]
        assert [e.frame for e in seen.provisional] == [e.frame for e in seen.settled] == list(range(40))


async def test_a_live_source_waits_for_no_batch_and_takes_together_what_has_come(bundle: Bundle) -> None:
    def events() -> Iterator[SourceEvent]:
        for i in range(12):
            time.sleep(0.05)
            yield frame(i)

    patient = Watching(bundle)
    await make_engine(bundle, ScriptedSource(events(), live=True, sound=False), [], estimator=patient).run()
    assert max(map(len, patient.batches)) <= 3
    assert [i for batch in patient.batches for i in batch] == list(range(12))
    assert sorted(map(len, patient.batches)) >= [1] * 6, "mostly one by one"

    class Behind(Watching, SlowEstimator):
        seconds = 0.03

    behind = Behind(bundle)
    full = EngineSettings(budget="full")
    source = ScriptedSource((frame(i) for i in range(100)), live=True, sound=False)
    await make_engine(bundle, source, [], estimator=behind, settings=full).run()
    assert max(map(len, behind.batches)) == 3, "and never more than the target allows"


async def test_a_source_with_nothing_in_it_ends_well(bundle: Bundle) -> None:
    seen = Collected()
    summary = await make_engine(bundle, ScriptedSource([]), [seen]).run()
    assert (summary.frames, summary.settled) == (0, 0)
    assert [s.phase for s in seen.statuses][-1] == "stopped"


# Bounds and drops


async def test_a_recording_waits_for_a_sink_that_is_not_ready_and_loses_nothing(bundle: Bundle) -> None:
    seen = Collected()
    taken = 0

    def events() -> Iterator[SourceEvent]:
        nonlocal taken
        for event in clip(120):
            taken += isinstance(event, VideoFrame)
            yield event

    seen.room.clear()
    running = asyncio.create_task(make_engine(bundle, ScriptedSource(events()), [seen]).run())
    await asyncio.sleep(1.0)
    assert taken <= 20, "no more is read ahead than the queues hold"
    assert seen.provisional == []
    seen.room.set()
    await running
    assert [e.frame for e in seen.settled] == list(range(120))


async def test_a_live_source_loses_what_is_not_taken_in_time_and_all_of_it_is_counted(bundle: Bundle) -> None:
    seen = Collected()
    engine = make_engine(
        bundle,
        ScriptedSource(live_clip(150), live=True),
        [seen],
        estimator=SlowEstimator(bundle, None),
        settings=EngineSettings(budget="full"),
    )
    summary = await engine.run()
    frames = [e.frame for e in seen.settled]
    assert frames == sorted(set(frames)) == [e.frame for e in seen.provisional]
    assert summary.status.drops["estimate_busy"] == 150 - len(frames) > 50
    assert frames[-1] == 149, "the newest frame wins"


async def test_the_sources_own_drops_are_drops_and_its_repairs_are_counters(bundle: Bundle) -> None:
    source = ScriptedSource(clip(5))
    source.counters.update(ticks_dropped=3, camera_surplus=7, camera_losses=2)
    source.measures = {"microphone_drift_ppm": 41.5}
    status = (await make_engine(bundle, source, []).run()).status
    assert status.drops == {"ticks_dropped": 3, "camera_surplus": 7}
    assert status.counters["camera_losses"] == 2
    assert status.counters["microphone_drift_ppm"] == 41.5


# What it says of itself


async def test_status_turns_with_the_phases_and_the_inputs(bundle: Bundle) -> None:
    def events() -> Iterator[SourceEvent]:
        yield from clip(10)
        yield turned("microphone", "lost")
        yield frame(10)

    seen = Collected()
    await make_engine(bundle, ScriptedSource(events()), [seen]).run()
    assert seen.statuses[0].phase == "running"
    assert seen.statuses[-1].phase == "stopped"
    assert seen.statuses[-1].inputs["microphone"] == InputStatus("lost", "scripted")
    assert (seen.statuses[-1].frames, seen.statuses[-1].settled) == (11, 11)


async def test_latency_counts_from_capture_live_and_has_no_meaning_at_fast_pace(bundle: Bundle) -> None:
    seen = Collected()

    def events() -> Iterator[SourceEvent]:
        for i in range(30):
            time.sleep(0.01)
            yield frame(i)

    summary = await make_engine(bundle, ScriptedSource(events(), live=True, sound=False), [seen]).run()
    assert all(e.latency_ms is not None and 0 < e.latency_ms < 5000 for e in seen.provisional)
    assert summary.status.latency_ms.p50 is not None
    fast = Collected()
    summary = await make_engine(bundle, ScriptedSource(clip(5)), [fast]).run()
    assert all(e.latency_ms is None for e in fast.provisional)
    assert summary.status.latency_ms.p50 is None


async def test_a_recording_that_cannot_keep_its_pace_falls_behind_and_says_so(bundle: Bundle) -> None:
    slow = SlowEstimator(bundle, None)
    slow.seconds = 0.06
    seen = Collected()
    engine = make_engine(
        bundle,
        ScriptedSource(clip(40)),
        [seen],
        estimator=slow,
        settings=EngineSettings(pace="live"),
    )
    summary = await engine.run()
    assert [e.frame for e in seen.settled] == list(range(40)), "late, but whole"
    assert summary.status.counters["behind_s"] > 0.4
    assert summary.status.degraded is None, "a recording waits, it never degrades"
