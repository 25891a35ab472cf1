"""The frame rate that a data set's recordings have: windows count frames, so features of another rate are others."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Final

import av

from models.bundle.manifest import FeatureRecipe

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

USUAL_RATE: Final = FeatureRecipe().frame_rate

_LOOKED_AT: Final = 50


def usual_rate(videos: Sequence[Path]) -> float:
    """The median rate that the headers of these recordings tell (of fifty, evenly picked, where there are more).

    A rate next to a whole number is that number: 29.97 counts as 30. 30 where no header tells any.
    """
    step = max(1, len(videos) // _LOOKED_AT)
    rates = [rate for path in videos[::step] if (rate := _rate(path)) is not None]
    if not rates:
        return USUAL_RATE
    median = statistics.median_low(rates)
    whole = float(round(median))
    return whole if whole and abs(median - whole) <= 0.01 * whole else round(median, 2)


def _rate(path: Path) -> float | None:
    try:
        with av.open(
            str(path), metadata_errors="replace", options={"protocol_whitelist": "file"}
        ) as container:
            rate = container.streams.video[0].average_rate
    except (av.FFmpegError, OSError, IndexError, ValueError):
        return None
    return float(rate) if rate and 1 <= rate <= 1000 else None
