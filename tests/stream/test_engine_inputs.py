"""Inputs that come and go, pictures that repeat, sound that is late: what the engine makes of its source."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from models.visual.tracker import FaceTracker
from stream.perception.features import Perception
from stream.perception.speech import GRACE_S
from stream.sources.events import SourceEvent, VideoFrame
from tests.stream.live_clips import TICK, live_clip
from tests.stream.scripted import (
    Collected,
    ScriptedDetector,
    ScriptedSource,
    frame,
    make_engine,
    no_picture,
    small_bundle,
    sound,
    turned,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.bundle.load import Bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return small_bundle(tmp_path_factory.mktemp("bundles") / "small")


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
