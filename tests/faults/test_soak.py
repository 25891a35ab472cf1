"""Thirty minutes of a live source on which everything goes wrong, several times: what is promised still holds.

The media's clock runs faster than the wall's: the source gives the next tick when the engine has answered the last
but a few, as a camera on a machine just fast enough would, and sometimes does not wait. Between the source's edge
and the sink's everything is real but the pictures (tiny) and the recogniser (which hears a word now and then).
"""

from __future__ import annotations

import gc
import threading
import time
import tracemalloc
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest

from models.spec import LanguageSpec, NetworkSpec
from models.speech.recogniser import HeardWord, Samples
from models.visual.tracker import FaceTracker
from stream.estimation.estimator import Estimator
from stream.options import EngineSettings
from stream.perception.features import Perception
from stream.perception.speech import Speech, transcriber_settings
from stream.sources.events import SAMPLE_RATE, AudioChunk, SourceEvent, VideoFrame
from tests.stream.scripted import (
    SMALL,
    Collected,
    ScriptedDetector,
    ScriptedSource,
    make_engine,
    no_picture,
    picture,
    small_bundle,
    turned,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stream.messages import Estimate

MEDIA_S = 30 * 60
RATE = 8.0
TICK_S = 1 / RATE
AHEAD = 3
MOST_GROWTH_MB_PER_HOUR = 1.0
MOST_RESIDENT_MB = 3.0


class SometimesAWord:
    """A recogniser that has heard one more word after each second and a half, and is never sure before the end."""

    def __init__(self) -> None:
        self._samples = 0

    def accept(self, samples: Samples) -> bool:
        self._samples += len(samples)
        return False

    def partial(self) -> str:
        return " ".join(["well"] * int(self._samples / SAMPLE_RATE / 1.5))

    def final(self) -> list[HeardWord]:
        return [
            HeardWord("well", 1.5 * i + 0.2, 1.5 * i + 0.6, 1.0) for i in range(len(self.partial().split()))
        ]


class Vectors:
    """Stands for the text encoder: a vector per word, at once."""

    width = 4

    def embed(self, words: tuple[str, ...]) -> np.ndarray:
        return np.array([[len(words), i, 1.0, -1.0] for i in range(len(words))], np.float32)


def resident_bytes() -> int:
    """What of this process is in memory, tensors and all."""
    return int(psutil.Process().memory_info().rss)


def robust_slope(x: np.ndarray, y: np.ndarray) -> float:
    """The median of all pairs' slopes (Theil and Sen): what an allocator does once in a while is no growth."""
    one, other = np.triu_indices(len(x), 1)
    return float(np.median((y[other] - y[one]) / (x[other] - x[one])))


@dataclass
class Tally(Collected):
    """A sink that counts instead of keeping, so that memory which grows is the engine's, and measures it.

    What Python allocates (each tensor's handle included) is traced from a while before the last third on, when all
    that is kept for a window has come and gone.
    """

    frames_provisional: int = 0
    frames_settled: int = 0
    last_provisional: int = -1
    last_settled: int = -1
    out_of_order: int = 0
    not_finite: int = 0
    memory: list[tuple[float, int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def offer(self, estimate: Estimate) -> None:
        self.not_finite += not np.isfinite([estimate.value.valence, estimate.value.arousal]).all()
        if not estimate.settled:
            self.out_of_order += estimate.frame <= self.last_provisional
            self.frames_provisional += 1
            self.last_provisional = estimate.frame
            return
        self.out_of_order += estimate.frame <= self.last_settled
        self.frames_settled += 1
        self.last_settled = estimate.frame
        if not tracemalloc.is_tracing() and estimate.time_s > MEDIA_S * 0.55:
            gc.collect()
            gc.freeze()
            tracemalloc.start()
        if estimate.time_s > MEDIA_S * 2 / 3 and self.frames_settled % 100 == 0:
            gc.collect()
            self.memory.append((estimate.time_s, tracemalloc.get_traced_memory()[0], resident_bytes()))

    def offer_status(self, status: object) -> None:
        """Only the last counts."""
        self.statuses = [status]  # type: ignore[list-item]

    def offer_transcript(self, transcript: object) -> None:
        """Not kept."""

    def offer_marker(self, marker: object) -> None:
        """Not kept."""


@dataclass
class Script:
    """What happens: times in seconds of media time, drawn once from a seed."""

    tally: Tally
    random: Random = field(default_factory=lambda: Random(2022))
    ticks: int = 0
    skipped: int = 0
    bursts: int = 0
    jumps: int = 0
    closed: threading.Event = field(default_factory=threading.Event)

    def events(self) -> Iterator[SourceEvent]:
        camera = self._outages(every_s=120, least_s=0.6, most_s=20)
        microphone = self._outages(every_s=150, least_s=0.3, most_s=40)
        stalls = {round(self.random.uniform(0, MEDIA_S) * RATE) for _ in range(12)}
        jumps = {round(self.random.uniform(0, MEDIA_S) * RATE) for _ in range(8)}
        bursts = {round(self.random.uniform(0, MEDIA_S) * RATE) for _ in range(12)}
        seen = heard = True
        tick = hurry = 0
        while tick * RATE**-1 < MEDIA_S and not self.closed.is_set():
            time_s = tick / RATE
            if seen != (tick not in camera):
                seen = not seen
                yield turned("camera", "ok" if seen else "lost")
            if heard != (tick not in microphone):
                heard = not heard
                yield turned("microphone", "ok" if heard else "lost")
            if heard:
                yield self._sound(time_s)
            if tick in bursts:
                # The machine is busy elsewhere: ticks come and are not waited for.
                hurry = 40
                self.bursts += 1
            if hurry:
                hurry -= 1
            else:
                self._wait()
            index = self.ticks
            self.ticks += 1
            if seen:
                yield VideoFrame(index, time_s, time.time(), picture(index), repeated=index % 11 == 5)
            else:
                tick_event = no_picture(index, RATE)
                yield type(tick_event)(index, time_s, tick_event.at)
            tick += 1
            if tick in stalls:
                # The source gave nothing for a while; its ticks are gone.
                lost = self.random.randint(5, 60)
                tick += lost
                self.skipped += lost
            if tick in jumps:
                # The clock of the source leaps ahead, far beyond any buffer.
                lost = self.random.randint(150, 400)
                tick += lost
                self.skipped += lost
                self.jumps += 1

    def _outages(self, every_s: float, least_s: float, most_s: float) -> set[int]:
        away: set[int] = set()
        at_s = self.random.uniform(0, every_s)
        while at_s < MEDIA_S:
            until_s = at_s + self.random.uniform(least_s, most_s)
            away.update(range(round(at_s * RATE), round(until_s * RATE)))
            at_s = until_s + self.random.uniform(0.3, 1.7) * every_s
        return away

    def _sound(self, time_s: float) -> AudioChunk:
        """Half of each minute somebody speaks: noise in the rhythm of syllables, which opens the voice gate."""
        start = round(time_s * SAMPLE_RATE)
        samples = int(SAMPLE_RATE * TICK_S)
        if time_s % 60 > 20:
            return AudioChunk(start, np.zeros(samples, np.float32))
        t = (start + np.arange(samples)) / SAMPLE_RATE
        voice = sum(np.sin(2 * np.pi * 140 * k * t) / k for k in range(1, 12))
        return AudioChunk(start, (0.15 * voice * (1 + np.sin(2 * np.pi * 4 * t))).astype(np.float32))

    def _wait(self) -> None:
        deadline = time.monotonic() + 30
        while self.ticks - self.tally.last_provisional > AHEAD and not self.closed.is_set():
            assert time.monotonic() < deadline, "the engine stands still"
            time.sleep(0.0005)


@pytest.mark.slow
async def test_half_an_hour_in_which_everything_goes_wrong(tmp_path: Path) -> None:
    assert SMALL.audio is not None
    spec: NetworkSpec = SMALL.model_copy(
        update={"language": LanguageSpec(embedding=4, temporal=SMALL.audio.temporal)}
    )
    bundle = small_bundle(tmp_path / "small", folds=1, spec=spec)
    tally = Tally()
    script = Script(tally)
    source = ScriptedSource(script.events(), live=True)
    script.closed = source.closed
    speech = Speech(SometimesAWord, transcriber_settings(300, RATE), has_sound=True)
    engine = make_engine(
        bundle,
        source,
        [tally],
        estimator=Estimator(bundle, Vectors()),  # type: ignore[arg-type]
        perception=Perception(FaceTracker(ScriptedDetector())),
        speech=speech,
        settings=EngineSettings(budget="full"),
    )
    try:
        summary = await engine.run()
    finally:
        tracemalloc.stop()
        gc.unfreeze()
    status = summary.status

    assert script.ticks + script.skipped >= MEDIA_S * RATE
    assert script.jumps > 0
    assert script.bursts > 0
    assert tally.out_of_order == 0, "nothing twice, nothing backwards"
    assert tally.not_finite == 0
    assert tally.frames_settled == tally.frames_provisional, "what was answered was settled"
    dropped = status.drops.get("estimate_busy", 0)
    assert tally.frames_settled + dropped == script.ticks, "every tick settled once, or its drop counted"
    assert dropped <= 60 * script.bursts
    assert set(status.drops) <= {"estimate_busy"}
    assert status.counters.get("speech_late_samples", 0) == 0
    assert status.counters.get("settled_early", 0) <= 0.001 * script.ticks

    # Python's own count is exact; the system's, tensors and all, moves as allocators like.
    times, traced, resident = map(np.array, zip(*tally.memory, strict=True))
    slope = robust_slope(times, traced) * 3600 / 1e6
    assert slope < MOST_GROWTH_MB_PER_HOUR, f"{slope:.2f} MB per hour of media"
    assert (resident[-5:].mean() - resident[:5].mean()) / 1e6 < MOST_RESIDENT_MB
