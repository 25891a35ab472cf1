"""How many frames are taken at once, and where a recording's batches are cut. Pure.

One call for several frames costs less than a call for each: weights are read once. A recording's batches are cut by
frame number alone, never by load or time, so that every replay of it computes the same. A live source waits for no
batch: what has come meanwhile is taken together, which is more than one frame only where the engine is behind.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final, TypeVar

from models.language.words import Event as SpeechEvent
from stream.features import FrameFeatures

LATENCY_TARGET_MS: Final = 70.0
"""How long a frame may wait for others: two more at 30 frames a second."""

MOST_AT_ONCE: Final = 64

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Moment:
    """A frame with everything said up to it; the last one of a stream has no frame."""

    features: FrameFeatures | None
    events: tuple[SpeechEvent, ...]


def keep_words(gone: Moment, following: Moment) -> Moment:
    """A frame that is dropped leaves what was said to the next one."""
    return Moment(following.features, gone.events + following.events)


def frames_at_once(latency_target_ms: float, frame_rate: float) -> int:
    """The most frames of which the first waits no longer than the target: at least 1, at most `MOST_AT_ONCE`.

    Raises ValueError for a target below 0 or a rate that is not positive.
    """
    if not (latency_target_ms >= 0 and frame_rate > 0):
        raise ValueError(f"no batch for a target of {latency_target_ms} ms at {frame_rate} frames/s")
    # 100 ms at 30 a second are three frames, whatever the floating point says.
    waiting = latency_target_ms * frame_rate / 1000 + 1e-9
    return 1 + math.floor(min(waiting, MOST_AT_ONCE - 1))


def ends_batch(index: int, size: int) -> bool:
    """Whether the frame of that number is the last of its batch."""
    return (index + 1) % size == 0


def runs(items: Sequence[T], key: Callable[[T], object]) -> Iterator[list[T]]:
    """The items in order, cut where `key` changes."""
    return (list(run) for _, run in groupby(items, key))
