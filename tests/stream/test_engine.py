"""What the engine promises whatever the source and the sinks do: order, bounds, counts, masks, a clean end."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from models.errors import UserError
from models.speech.words import Settled, SpeechEvent
from models.visual.tracker import FaceTracker
from stream.estimation.estimator import Estimator, EstimatorState
from stream.messages import Estimate, InputStatus
from stream.options import EngineSettings
from stream.perception.features import Perception
from stream.perception.speech import GRACE_S
from stream.sources.events import AudioChunk, SourceEvent, VideoFrame
from tests.stream.brokers import until
from tests.stream.scripted import (
    Collected,
    ScriptedDetector,
    ScriptedSource,
    clip,
    frame,
    make_engine,
    no_picture,
    small_bundle,
    sound,
    turned,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from models.bundle.load import Bundle
    from stream.estimation.batching import Moment

TICK = 1 / 30


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return small_bundle(tmp_path_factory.mktemp("bundles") / "small")


class SlowEstimator(Estimator):
    """An estimator on a machine that needs so long for a frame."""

    seconds = 0.02

    def answer(
        self, state: EstimatorState, moments: Sequence[Moment]
    ) -> tuple[EstimatorState, tuple[Estimate, ...]]:
        time.sleep(self.seconds * len(moments))
        return super().answer(state, moments)


def live_clip(frames: int, *, sound_until: float = float("inf"), lag_s: float = 0.0) -> Iterator[SourceEvent]:
    """Ticks as a live source gives them, with sound that comes `lag_s` late and stops."""
    heard = 0
    for i in range(frames):
        while (heard + 1) * TICK <= min(i * TICK - lag_s, sound_until):
            yield sound(heard * TICK, (heard + 1) * TICK)
            heard += 1
        yield frame(i)


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

    late_samples = dropped_chunks = 0
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


# Inputs that come and go


async def test_without_a_picture_the_sound_goes_on_and_the_visual_branch_is_masked(bundle: Bundle) -> None:
    def events(blind: bool) -> Iterator[SourceEvent]:
        for i in range(60):
            yield sound(i * TICK, (i + 1) * TICK)
            if 20 <= i < 40:
                if i == 20:
                    yield turned("camera", "lost")
                yield no_picture(i) if blind else frame(i)
            else:
                if i == 40:
                    yield turned("camera", "ok")
                yield frame(i)

    blind, whole = Collected(), Collected()
    await make_engine(bundle, ScriptedSource(events(True)), [blind]).run()
    await make_engine(bundle, ScriptedSource(events(False)), [whole]).run()
    assert [e.frame for e in blind.settled] == list(range(60)), "ticks without a picture count like frames"
    assert [e.present.face for e in blind.settled] == [not 20 <= i < 40 for i in range(60)]
    assert all(a.value == b.value for a, b in zip(blind.settled[:20], whole.settled[:20], strict=True))
    assert blind.settled[30].value != whole.settled[30].value
    healths = [s.inputs["camera"].health for s in blind.statuses]
    assert [h for i, h in enumerate(healths) if i == 0 or healths[i - 1] != h] == ["ok", "lost", "ok"]


async def test_a_lost_microphone_is_silence_after_the_grace_and_frames_settle(bundle: Bundle) -> None:
    """Nothing waits for the window to push it out; what was settled lags the newest frame by little more than the
    grace.
    """
    seen = Collected()

    def events() -> Iterator[SourceEvent]:
        for i in range(240):
            if i < 30:
                yield sound(i * TICK, (i + 1) * TICK)
            if i == 45:
                yield turned("microphone", "lost")
            time.sleep(0.004)
            yield frame(i)

    summary = await make_engine(bundle, ScriptedSource(events(), live=True), [seen]).run()
    assert summary.status.counters.get("settled_early", 0) == 0
    assert [e.frame for e in seen.settled] == [e.frame for e in seen.provisional]
    before_the_end = seen.order[: seen.order.index(("provisional", 239))]
    newest_settled = max(n for kind, n in before_the_end if kind == "settled")
    # The gate may look back by its pre-roll; a loaded machine is a few frames behind.
    assert newest_settled * TICK > 239 * TICK - GRACE_S - 1.2


@pytest.mark.parametrize(("lag_s", "lost"), [(0.3, False), (1.6, True)])
async def test_sound_may_be_late_by_the_grace_and_what_comes_later_is_left_out_and_counted(
    bundle: Bundle, lag_s: float, lost: bool
) -> None:
    source = ScriptedSource(live_clip(120, lag_s=lag_s), live=True)
    summary = await make_engine(bundle, source, []).run()
    assert (summary.status.counters.get("speech_late_samples", 0) > 0) == lost


async def test_a_source_without_a_microphone_settles_at_once(bundle: Bundle) -> None:
    seen = Collected()
    source = ScriptedSource((frame(i) for i in range(30)), live=True, sound=False)
    await make_engine(bundle, source, [seen]).run()
    assert [e.frame for e in seen.settled] == [e.frame for e in seen.provisional]
    assert seen.order.index(("settled", 0)) < len(seen.order) - 2


async def test_a_repeated_picture_is_not_looked_at_again(bundle: Bundle) -> None:
    class Counting(ScriptedDetector):
        looks = 0

        def detect(self, rgb: Any) -> Any:
            Counting.looks += 1
            return super().detect(rgb)

    seen = Collected()
    events = (frame(i // 2 * 2, repeated=bool(i % 2)) for i in range(40))
    ticks = (VideoFrame(i, i * TICK, e.captured_at, e.rgb, e.repeated) for i, e in enumerate(events))
    perception = Perception(FaceTracker(Counting()))
    source = ScriptedSource(ticks, sound=False)
    await make_engine(bundle, source, [seen], perception=perception).run()
    assert Counting.looks == 20
    assert all(e.present.face for e in seen.settled)
    assert [e.latency_ms is None for e in seen.provisional] == [True] * 40


# Commands


async def test_paused_a_recording_stands_still_and_goes_on_where_it_was(bundle: Bundle) -> None:
    seen = Collected()
    engine = make_engine(bundle, ScriptedSource(clip(90)), [seen], settings=EngineSettings(pace="live"))
    running = asyncio.create_task(engine.run())
    await until(lambda: len(seen.provisional) >= 15, timeout_s=60)
    engine.command("pause")
    held = -1
    while held != len(seen.provisional):  # what was on its way comes through
        held = len(seen.provisional)
        await asyncio.sleep(0.5)
    await asyncio.sleep(0.5)
    assert len(seen.provisional) == held < 90
    assert engine.status().phase == "paused"
    engine.command("resume")
    await running
    assert [e.frame for e in seen.settled] == list(range(90))


async def test_paused_live_frames_pass_unseen_and_are_counted(bundle: Bundle) -> None:
    seen = Collected()

    def events() -> Iterator[SourceEvent]:
        for i in range(180):
            yield sound(i * TICK, (i + 1) * TICK)
            time.sleep(0.005)
            yield frame(i)

    engine = make_engine(bundle, ScriptedSource(events(), live=True), [seen])
    running = asyncio.create_task(engine.run())
    await until(lambda: len(seen.provisional) >= 20, timeout_s=60)
    engine.command("pause")
    before = len(seen.provisional)
    await asyncio.sleep(0.3)
    assert len(seen.provisional) <= before + 6, "what was on its way comes through"
    engine.command("resume")
    summary = await running
    assert summary.status.counters["frames_paused"] > 10
    dropped = summary.status.drops.get("estimate_busy", 0)
    assert len(seen.settled) + summary.status.counters["frames_paused"] + dropped == 180
    assert [e.frame for e in seen.settled] == [e.frame for e in seen.provisional]


async def test_recentering_begins_the_merge_anew(bundle: Bundle) -> None:
    seen = Collected()
    engine = make_engine(bundle, ScriptedSource(clip(60)), [seen], settings=EngineSettings(pace="live"))
    running = asyncio.create_task(engine.run())
    await until(lambda: len(seen.provisional) >= 20, timeout_s=60)
    engine.command("recenter")
    await running
    anew = [e.frame for e in seen.provisional[1:] if e.spread.valence < 1e-12]
    assert len(anew) == 1, "one frame has no spread, and only that one"
    assert anew[0] >= 20


# A clean end, whatever ends it


def threads() -> set[str]:
    ours = ("source", "perception", "estimator", "speech")
    return {t.name for t in threading.enumerate() if t.name.startswith(ours)}


async def test_an_error_of_the_source_is_the_runs_error_and_what_was_settled_is_kept(bundle: Bundle) -> None:
    def events() -> Iterator[SourceEvent]:
        yield from clip(40)
        raise UserError("the disk under talk.mp4 is gone")

    seen, source = Collected(), ScriptedSource(events())
    with pytest.raises(UserError, match=r"talk\.mp4"):
        await make_engine(bundle, source, [seen]).run()
    assert source.ended
    assert seen.closed
    assert [e.frame for e in seen.settled] == list(range(len(seen.settled)))
    assert seen.statuses[-1].phase == "stopped"
    assert not threads()


async def test_an_error_of_a_sink_is_the_runs_error_and_closes_the_source(bundle: Bundle) -> None:
    class Broken(Collected):
        async def run(self) -> None:
            await until(lambda: self.provisional, timeout_s=60)
            raise UserError("the disk is full")

    def endless() -> Iterator[SourceEvent]:
        i = 0
        while True:
            time.sleep(0.005)
            yield frame(i)
            i += 1

    source, broken, other = ScriptedSource(endless(), live=True), Broken(), Collected()
    with pytest.raises(UserError, match="disk is full"):
        await make_engine(bundle, source, [broken, other]).run()
    assert source.ended
    assert broken.closed
    assert other.closed
    assert not threads()


async def test_a_sink_that_cannot_be_opened_ends_the_run_before_the_source_is_read(bundle: Bundle) -> None:
    class Refusing(Collected):
        async def open(self) -> None:
            raise UserError("no broker there")

    source, other = ScriptedSource(clip(5)), Collected()
    with pytest.raises(UserError, match="no broker"):
        await make_engine(bundle, source, [other, Refusing()]).run()
    assert not source.opened
    assert other.closed
    assert not threads()


@pytest.mark.parametrize("live", [True, False])
async def test_cancelled_it_closes_everything_and_leaves_no_task_and_no_thread(
    bundle: Bundle, live: bool
) -> None:
    def endless() -> Iterator[SourceEvent]:
        i = 0
        while True:
            time.sleep(0.005)
            yield sound(i * TICK, (i + 1) * TICK)
            yield frame(i)
            i += 1

    before = asyncio.all_tasks()
    seen, source = Collected(), ScriptedSource(endless(), live=live)
    running = asyncio.create_task(make_engine(bundle, source, [seen]).run())
    await until(lambda: len(seen.settled) >= 10, timeout_s=60)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert source.ended
    assert seen.closed
    assert asyncio.all_tasks() == before
    assert not threads()
    assert seen.statuses[-1].phase == "stopped"


async def test_an_error_inside_the_estimator_is_not_swallowed(bundle: Bundle) -> None:
    class Failing(Estimator):
        def answer(self, *args: Any) -> tuple[EstimatorState, tuple[Estimate, ...]]:
            raise RuntimeError("a bug")

    source = ScriptedSource(clip(50))
    with pytest.raises(RuntimeError, match="a bug"):
        await make_engine(bundle, source, [Collected()], estimator=Failing(bundle, None)).run()
    assert source.ended
    assert not threads()


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
