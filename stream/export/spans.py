"""A session as stretches of time with a text, which annotation programs take."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from models.spec import Target
    from stream.session_folder.read import SessionFolder

PRESENCES: Final = ("face", "voice")
MARKER_S: Final = 0.5
"""How long a marker is shown where a program has no points, if the next comes no sooner."""

STEP_S: Final = 1.0
"""Valence and arousal are written as means over so long, where a program takes texts only."""

GAP_PERIODS: Final = 1.5
"""Frames further apart than so many periods have something missing between them."""


@dataclass(frozen=True)
class Span:
    """From `start_s` to `end_s` in media seconds; `end_s` is later."""

    start_s: float
    end_s: float
    text: str


def period_s(session: SessionFolder) -> float:
    """Seconds from frame to frame, as the source was said to have them."""
    return 1.0 / float(session.facts["clocks"]["frame_rate"])


def duration_s(session: SessionFolder) -> float:
    """Media seconds until the last frame is over, and the last word."""
    times = session.estimates["time_s"]
    frames_s = float(times[-1]) + period_s(session) if len(times) else 0.0
    return max([frames_s, *(word.end_s for word in session.words)])


def values(session: SessionFolder, target: Target, suffix: str = "") -> NDArray[np.float64]:
    """A target's values, or with `_spread` their spreads, a frame: settled where the frame has settled."""
    settled = session.estimates[f"settled_{target}{suffix}"].astype(np.float64)
    provisional = session.estimates[f"provisional_{target}{suffix}"].astype(np.float64)
    return np.where(np.isnan(settled), provisional, settled)


def presence_spans(session: SessionFolder, what: str) -> list[Span]:
    """Where a face was seen or a voice heard without a break."""
    times, step_s = session.estimates["time_s"], period_s(session)
    spans: list[Span] = []
    for time_s, present in zip(times, session.estimates[what], strict=True):
        if not present:
            continue
        end_s = float(time_s) + step_s
        if spans and float(time_s) - (spans[-1].end_s - step_s) <= GAP_PERIODS * step_s:
            spans[-1] = replace(spans[-1], end_s=end_s)
        else:
            spans.append(Span(float(time_s), end_s, what))
    return spans


def value_spans(session: SessionFolder, target: Target) -> list[Span]:
    """Means over each second; seconds without a frame have none."""
    times, found = session.estimates["time_s"], values(session, target)
    spans = []
    if len(times):
        seconds = np.floor(times / STEP_S).astype(int)
        for second in np.unique(seconds):
            here = found[seconds == second]
            if not np.isnan(here).all():
                spans.append(Span(second * STEP_S, (second + 1) * STEP_S, f"{np.nanmean(here):+.2f}"))
    return spans


def word_spans(session: SessionFolder) -> list[Span]:
    """Every word."""
    return without_overlap(Span(word.start_s, word.end_s, word.text) for word in session.words)


def marker_points(session: SessionFolder) -> list[tuple[float, str]]:
    """Every marker whose media time is known, in order, no two at the same millisecond."""
    points: list[tuple[float, str]] = []
    known = [(event.time_s, event.value) for event in session.markers if event.time_s is not None]
    for time_s, text in sorted(known):
        least_s = points[-1][0] + 0.001 if points else 0.0
        points.append((max(time_s, least_s), text))
    return points


def marker_spans(session: SessionFolder) -> list[Span]:
    """Markers as short stretches."""
    points = marker_points(session)
    spans = [Span(time_s, time_s + MARKER_S, text) for time_s, text in points]
    for number, after in enumerate(spans[1:]):
        spans[number] = replace(spans[number], end_s=min(spans[number].end_s, after.start_s))
    return spans


def without_overlap(spans: Iterable[Span]) -> list[Span]:
    """In order of time, each beginning no sooner than the one before ends, and none shorter than a millisecond."""
    kept: list[Span] = []
    for span in sorted(spans, key=lambda each: (each.start_s, each.end_s)):
        start_s = max(span.start_s, kept[-1].end_s if kept else 0.0)
        if span.end_s - start_s >= 0.001:
            kept.append(replace(span, start_s=start_s))
    return kept


def tiers(session: SessionFolder) -> dict[str, list[Span]]:
    """All of it by the name of its tier, markers excepted."""
    return {
        "words": word_spans(session),
        **{what: presence_spans(session, what) for what in PRESENCES},
        "valence": value_spans(session, "valence"),
        "arousal": value_spans(session, "arousal"),
    }


def table(session: SessionFolder) -> list[tuple[str, NDArray[Any]]]:
    """What is exported of every frame, by name: values, spreads, presence as 0 and 1."""
    return [
        ("valence", values(session, "valence")),
        ("arousal", values(session, "arousal")),
        ("valence_spread", values(session, "valence", "_spread")),
        ("arousal_spread", values(session, "arousal", "_spread")),
        *((what, session.estimates[what].astype(np.int64)) for what in (*PRESENCES, "words")),
    ]
