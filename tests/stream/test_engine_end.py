"""The engine obeys commands, and ends cleanly whatever ends it."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from models.errors import UserError
from stream.estimation.estimator import Estimator, EstimatorState
from stream.messages import CommandOutcome
from stream.options import EngineSettings
from tests.stream.brokers import until
from tests.stream.live_clips import TICK
from tests.stream.scripted import (
    Collected,
    ScriptedSource,
    clip,
    frame,
    make_engine,
    small_bundle,
    sound,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.bundle.load import Bundle
    from stream.messages import Estimate
    from stream.sources.events import SourceEvent


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return small_bundle(tmp_path_factory.mktemp("bundles") / "small")


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


async def test_a_command_says_whether_it_was_obeyed_and_why_not(bundle: Bundle) -> None:
    seen = Collected()
    engine = make_engine(bundle, ScriptedSource(clip(60)), [seen], settings=EngineSettings(pace="live"))
    assert engine.command("pause") == CommandOutcome(False, "the run is starting")
    running = asyncio.create_task(engine.run())
    await until(lambda: len(seen.provisional) >= 5, timeout_s=60)
    assert engine.command("pause") == CommandOutcome(True)
    assert engine.command("pause") == CommandOutcome(True, "paused already")
    assert engine.command("resume") == CommandOutcome(True)
    assert engine.command("resume") == CommandOutcome(True, "running already")
    await running
    assert engine.command("recenter") == CommandOutcome(False, "the run is stopped")


# Markers


async def test_a_marker_is_at_the_media_time_of_its_moment(bundle: Bundle) -> None:
    seen = Collected()
    engine = make_engine(bundle, ScriptedSource(clip(60)), [seen], settings=EngineSettings(pace="live"))
    assert engine.mark("too early", "python").time_s is None
    running = asyncio.create_task(engine.run())
    await until(lambda: len(seen.provisional) >= 10, timeout_s=60)
    newest = seen.provisional[-1]
    marker = engine.mark("a door", "page", newest.captured_at - 0.1)
    assert marker.time_s == pytest.approx(newest.time_s - 0.1)
    assert engine.mark("before all", "mqtt", newest.captured_at - 100).time_s == 0
    await running
    assert [(m.text, m.origin) for m in seen.markers] == [("a door", "page"), ("before all", "mqtt")]


async def test_while_a_recording_stands_still_markers_do_too(bundle: Bundle) -> None:
    seen = Collected()
    engine = make_engine(bundle, ScriptedSource(clip(60)), [seen], settings=EngineSettings(pace="live"))
    running = asyncio.create_task(engine.run())
    await until(lambda: len(seen.provisional) >= 10, timeout_s=60)
    engine.command("pause")
    await asyncio.sleep(0.5)
    assert engine.mark("a pause", "terminal").time_s == seen.provisional[-1].time_s
    engine.command("resume")
    await running


async def test_as_fast_as_possible_a_marker_is_at_the_newest_frame(bundle: Bundle) -> None:
    seen = Collected()
    engine = make_engine(bundle, ScriptedSource(clip(60)), [seen], settings=EngineSettings(pace="fast"))
    await engine.run()
    assert engine.mark("the end", "python", 0.0).time_s == seen.provisional[-1].time_s


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
