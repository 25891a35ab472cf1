"""How many frames are taken at once, and where a recording's batches are cut. Pure.

One call for several frames costs less than a call for each: weights are read once. A recording's batches are cut by
frame number alone, never by load or time, so that every replay of it computes the same. A live source waits for no
batch: what has come meanwhile is taken together, which is more than one frame only where the engine is behind.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from models.speech.words import SpeechEvent
    from stream.perception.features import FrameFeatures

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


def batch_sizes(at_once: int, *, live: bool) -> tuple[int, ...]:
    """The batches that accelerators should be built for; any other is put together from them.

    Each costs memory. A recording's batches are all of one size but the last; a live source's are mostly single.
    """
    return tuple(sorted({1, min(4, at_once), at_once})) if live else (at_once,)


def ends_batch(index: int, size: int) -> bool:
    """Whether the frame of that number is the last of its batch."""
    return (index + 1) % size == 0


def whole_batches(
    indices: Sequence[int], ready: int, size: int, limit: int | None = None, *, ended: bool
) -> list[int]:
    """The lengths of the batches at the front of frames with these numbers, none of which reaches beyond the first
    `ready`: as many as make up `limit` frames, and one at least where there is one.

    A batch is whole with its last frame, or, where that was dropped, when a later one has come or none will.
    """
    lengths: list[int] = []
    begun = 0
    for n in range(1, ready + 1):
        if limit is not None and n > limit and lengths:
            break
        last = indices[n - 1]
        over = indices[n] // size != last // size if n < len(indices) else ended
        if over or ends_batch(last, size):
            lengths.append(n - begun)
            begun = n
    return lengths


def runs(items: Sequence[T], key: Callable[[T], object]) -> Iterator[list[T]]:
    """The items in order, cut where `key` changes."""
    return (list(run) for _, run in groupby(items, key))
