"""The engine's two edges for tests: sources that do as a script says, sinks that keep what they are given, and a
bundle small enough to run thousands of frames.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from models.audio.vggish import Vggish
from models.bundle.load import Bundle, FeatureRecipe, PartUse, load_bundle, save_bundle
from models.networks.fold import EmotionNetwork
from models.parts.registry import require_part
from models.spec import (
    AudioSpec,
    BackboneSpec,
    LanguageSpec,
    NetworkSpec,
    TemporalSpec,
    VggishSpec,
    VisualSpec,
)
from models.text.small_bert import make_text_encoder
from models.visual.detectors import Face
from models.visual.tracker import FaceTracker
from stream.description import bundle_status
from stream.engine import Engine
from stream.estimation.estimator import Estimator
from stream.messages import Estimate, InputStatus, Marker, Status, Transcript
from stream.options import EngineSettings
from stream.perception.features import Perception
from stream.perception.speech import Speech, transcriber_settings
from stream.sources.events import (
    SAMPLE_RATE,
    AudioChunk,
    InputChange,
    NoPicture,
    SourceEvent,
    SourceInfo,
    VideoFrame,
)
from stream.status import RunFacts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from stream.sinks.base import Sink

SMALL = NetworkSpec(
    visual=VisualSpec(
        backbone=BackboneSpec(
            widths=(2, 2, 2, 2), units=(1, 1, 1, 1), embedding=4, dropout=0.0, released_units=0
        ),
        temporal=TemporalSpec(widths=(4, 4)),
    ),
    audio=AudioSpec(
        encoder=VggishSpec(widths=(1, 1, 1, 1, 1, 1), hidden=(4, 4), embedding=4),
        temporal=TemporalSpec(widths=(4, 4)),
    ),
    language=LanguageSpec(embedding=4, temporal=TemporalSpec(widths=(4, 4))),
    d_k=4,
)
OK = InputStatus("ok", "scripted")


def small_bundle(folder: Path, folds: int = 3, spec: NetworkSpec = SMALL) -> Bundle:
    """Random folds of a few thousand weights, with every part bundled."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        assert spec.audio is not None
        assert spec.language is not None
        networks = [EmotionNetwork(spec) for _ in range(folds)]
        audio_encoder = Vggish(spec.audio.encoder)
    text = folder.parent / f"{folder.name}-text"
    make_text_encoder(text, spec.language.embedding, seed=5)
    save_bundle(
        folder,
        name="small",
        folds=networks,
        recipe=FeatureRecipe(
            detector=PartUse(name="haar"),
            audio_encoder=PartUse(name="small-vggish"),
            recogniser=PartUse(name="vosk-tiny", sha256=require_part("vosk-tiny").sha256),
            text_encoder=PartUse(name="small-bert"),
        ),
        trained=False,
        note="random",
        provenance={},
        audio_encoder=audio_encoder,
        text_encoder_folder=text,
    )
    return load_bundle(folder)


class ScriptedDetector:
    """Finds one face in the middle of every picture that is not black."""

    name = "scripted"

    def detect(self, rgb: NDArray[np.uint8]) -> list[Face]:
        if not rgb.any():
            return []
        height, width = rgb.shape[:2]
        box = (width * 0.2, height * 0.1, width * 0.6, height * 0.8)
        places = [(0.38, 0.4), (0.62, 0.4), (0.5, 0.55), (0.4, 0.7), (0.6, 0.7)]
        return [Face(box, np.array([(width * x, height * y) for x, y in places], np.float32), 1.0)]


class ScriptedSource:
    """Yields the given events, which may sleep, raise, or wait in between, as a camera or a file would."""

    def __init__(self, events: Iterable[SourceEvent], *, live: bool = False, sound: bool = True) -> None:
        self._events = events
        self.live = live
        self.info = SourceInfo("scripted", 64, 48, 30.0, None, "raw", "pcm" if sound else None, sound, None)
        self.counters: Counter[str] = Counter()
        self.measures: Mapping[str, float] = {}
        self.inputs = {"camera": OK, "microphone": OK if sound else InputStatus("off")}
        self.closed = threading.Event()
        self.opened = self.ended = False

    def events(self) -> Iterator[SourceEvent]:
        self.opened = True
        try:
            for event in self._events:
                if self.closed.is_set():
                    return
                yield event
        finally:
            self.ended = True

    def close(self) -> None:
        self.closed.set()


class Collected:
    """A sink that keeps everything, in the order it came."""

    name = "collected"

    def __init__(self) -> None:
        self.provisional: list[Estimate] = []
        self.settled: list[Estimate] = []
        self.order: list[tuple[str, int]] = []
        self.statuses: list[Status] = []
        self.transcripts: list[Transcript] = []
        self.markers: list[Marker] = []
        self.opened = self.closed = False
        self.room = asyncio.Event()
        self.room.set()

    drops: Mapping[str, int] = {}
    counters: Mapping[str, float] = {}

    async def open(self) -> None:
        self.opened = True

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def ready(self) -> None:
        await self.room.wait()

    def offer(self, estimate: Estimate) -> None:
        (self.settled if estimate.settled else self.provisional).append(estimate)
        self.order.append(("settled" if estimate.settled else "provisional", estimate.frame))

    def offer_status(self, status: Status) -> None:
        self.statuses.append(status)

    def offer_transcript(self, transcript: Transcript) -> None:
        self.transcripts.append(transcript)

    def offer_marker(self, marker: Marker) -> None:
        self.markers.append(marker)

    async def close(self) -> None:
        self.closed = True


def picture(index: int) -> NDArray[np.uint8]:
    """A small picture that says which it is."""
    rgb = np.full((48, 64, 3), 40 + index % 150, np.uint8)
    rgb[10:30, 10 + index % 20 : 40] = 255 - index % 100
    return rgb


def frame(index: int, rate: float = 30.0, *, repeated: bool = False) -> VideoFrame:
    return VideoFrame(index, index / rate, time.time(), picture(index), repeated)


def no_picture(index: int, rate: float = 30.0) -> NoPicture:
    return NoPicture(index, index / rate, time.time())


def sound(start_s: float, end_s: float, level: float = 0.1) -> AudioChunk:
    start, end = round(start_s * SAMPLE_RATE), round(end_s * SAMPLE_RATE)
    t = np.arange(start, end) / SAMPLE_RATE
    return AudioChunk(start, (level * np.sin(2 * np.pi * 300 * t)).astype(np.float32))


def turned(name: Any, health: Any) -> InputChange:
    return InputChange(name, InputStatus(health, "scripted"))


def clip(frames: int, rate: float = 30.0) -> Iterator[SourceEvent]:
    """Frames and sound beside them, as a file gives them."""
    for i in range(frames):
        yield sound(i / rate, (i + 1) / rate)
        yield frame(i, rate)


def make_engine(
    bundle: Bundle,
    source: Any,
    sinks: list[Any],
    *,
    estimator: Estimator | None = None,
    perception: Perception | None = None,
    speech: Any = None,
    settings: EngineSettings | None = None,
) -> Engine:
    """The engine over a scripted source: everything between the edges is real."""
    given: list[Sink] = sinks
    return Engine(
        source,
        perception or Perception(FaceTracker(ScriptedDetector())),
        speech
        or Speech(None, transcriber_settings(300, source.info.frame_rate), has_sound=source.info.has_audio),
        estimator or Estimator(bundle, None),
        given,
        facts=RunFacts(bundle_status(bundle)),
        inputs=dict(source.inputs),
        settings=settings or EngineSettings(pace="fast"),
    )
