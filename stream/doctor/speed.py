"""How long this machine needs for a frame with this bundle, measured by a live engine's own parts."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final

import numpy as np

from models.machine import is_calm
from models.visual.tracker import FaceTracker
from stream.build import load
from stream.doctor.findings import Finding
from stream.estimation.estimator import Estimator
from stream.options import DEMO_RECORDING
from stream.perception.features import Perception
from stream.sources.events import AudioChunk, NoPicture, VideoFrame
from stream.sources.file import MediaFile
from stream.sources.pushed import PushedLive

if TYPE_CHECKING:
    from collections.abc import Callable

    from stream.build import LoadedParts
    from stream.options import InputOptions

FRAMES: Final = 45
WARM_UP: Final = 15
"""Frames, of those, whose times do not count: caches fill, and the face is found for the first time."""

SCARCE: Final = 1.25
"""Headroom below which a live engine spares things now and then, since other work shares the machine."""


@dataclass(frozen=True)
class Speed:
    """Median and 95th percentile of the milliseconds that a frame takes, from picture to settled estimate, one after
    the other as on a single processor; what of the median is seeing and hearing, and what is estimating.
    """

    frame_ms: float
    slow_frame_ms: float
    perceive_ms: float
    estimate_ms: float

    def headroom(self, frame_rate: float) -> float:
        """How many times as fast as needed: 1 is just fast enough."""
        return 1000 / frame_rate / self.frame_ms


def load_as_live(options: InputOptions, frame_rate: float, tell: Callable[[str], None]) -> LoadedParts:
    """What a live run with these options would load, the devices apart. Raises UserError as `stream.build.load`.

    The accelerator that is chosen here, and what is built for it, is kept for that run.
    """
    source = PushedLive(tick_rate=frame_rate, sound=options.microphone != "none", name="stream-doctor")
    return load(options, tell, source=source)


def measure(parts: LoadedParts, frames: int = FRAMES) -> Speed:
    """Takes the first frames of the demo recording through the loaded parts, one by one, as they come live."""
    crop = parts.bundle.manifest.recipe.crop
    perception = Perception(FaceTracker(parts.detector, crop))
    estimator = Estimator(parts.bundle, parts.embedder, runtime=parts.runtime)
    seeing, estimating = perception.initial_state(), estimator.initial_state()
    perceive_ms: list[float] = []
    estimate_ms: list[float] = []
    spent_s = 0.0
    with closing(MediaFile(str(DEMO_RECORDING))) as source:
        for event in source.events():
            began_s = time.perf_counter()
            if isinstance(event, VideoFrame | NoPicture):
                seeing, features = perception.step(seeing, event)
                seen_s = time.perf_counter()
                estimating, _ = estimator.step(estimating, features)
                estimate_ms.append(1e3 * (time.perf_counter() - seen_s))
                perceive_ms.append(1e3 * (spent_s + seen_s - began_s))
                spent_s = 0.0
                if len(estimate_ms) == frames:
                    break
            elif isinstance(event, AudioChunk):
                seeing, _ = perception.step(seeing, event)
                spent_s += time.perf_counter() - began_s
    warm = min(WARM_UP, len(estimate_ms) // 2)
    whole = [a + b for a, b in zip(perceive_ms[warm:], estimate_ms[warm:], strict=True)]
    return Speed(
        median(whole),
        float(np.percentile(whole, 95)),
        median(perceive_ms[warm:]),
        median(estimate_ms[warm:]),
    )


def judge_speed(
    accelerator: str, speed: Speed, *, frame_rate: float, calm: bool, notes: tuple[str, ...] = ()
) -> Finding:
    """Whether a live engine keeps up at full quality. Where it does not it still runs, and spares things."""
    headroom = speed.headroom(frame_rate)
    says = (
        f"{accelerator}: {speed.frame_ms:.1f} ms of the {1000 / frame_rate:.1f} ms that a frame may take "
        f"(95%: {speed.slow_frame_ms:.1f}), {headroom:.1f} times as fast as needed"
    )
    if not calm:
        says += "; measured beside other work"
    says = "; ".join([says, *notes])
    measures = {
        "frame_ms": speed.frame_ms,
        "frame_ms_p95": speed.slow_frame_ms,
        "perceive_ms": speed.perceive_ms,
        "estimate_ms": speed.estimate_ms,
        "headroom": headroom,
    }
    if headroom >= SCARCE:
        return Finding("accelerator", "ok", says, measures=measures)
    mend = "close other work" if not calm else "pip install 'affectstream[openvino]'"
    return Finding(
        "accelerator", "warning", f"{says}: live, pictures or folds will be left out", mend, measures
    )


def examine_speed(options: InputOptions, frame_rate: float, tell: Callable[[str], None]) -> Finding:
    """Loads and measures. Blocks for seconds, longer where an accelerator is built. Raises UserError."""
    parts = load_as_live(options, frame_rate, tell)
    try:
        return judge_speed(
            parts.runtime.name,
            measure(parts),
            frame_rate=frame_rate,
            calm=is_calm(),
            notes=parts.runtime.notes,
        )
    finally:
        parts.source.close()
