"""Figures of a session, as one would put them in a paper: its course over time, and the plane. PNG, no display."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from matplotlib.figure import Figure

from models.spec import TARGETS
from offline.reporting.figures import COLOURS, LABEL, png
from stream.export.spans import (
    GAP_PERIODS,
    MARKER_S,
    PRESENCES,
    marker_points,
    period_s,
    presence_spans,
    values,
    word_spans,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from models.spec import Target
    from stream.session_folder.read import SessionFolder

WORDS_SHOWN: Final = 45
"""So many words are legible beside each other; of more only the times are drawn."""

MARKERS_NAMED: Final = 20
_ROWS: Final = (*PRESENCES, "words")
_ROW_COLOURS: Final = {"face": "#5b7f95", "voice": "#8c6d31", "words": "#6b6b6b"}


def draw_course(session: SessionFolder, title: str) -> bytes:
    """Valence and arousal over time with the spread as a band; presence, words and markers below and across."""
    figure = Figure(figsize=(10, 6.4), layout="constrained")
    figure.suptitle(title, fontsize="medium")
    upper, lower, strip = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 1.3))
    for axes, target in zip((upper, lower), TARGETS, strict=True):
        _draw_target(axes, session, target)
    _draw_presence(strip, session)
    _draw_markers((upper, lower, strip), session)
    strip.set_xlabel("media time in seconds")
    return png(figure)


def _draw_target(axes: Axes, session: SessionFolder, target: Target) -> None:
    estimates, colour = session.estimates, COLOURS[target]
    times, step_s = estimates["time_s"], period_s(session)
    value, spread = values(session, target), values(session, target, "_spread")
    low, high = np.clip(value - spread, -1, 1), np.clip(value + spread, -1, 1)
    axes.axhline(0, color="#999999", linewidth=0.6)
    broken, low, high = with_gaps(times, step_s, low, high)
    axes.fill_between(broken, low, high, color=colour, alpha=0.18, linewidth=0, label="spread")
    provisional = estimates[f"provisional_{target}"].astype(np.float64)
    axes.plot(
        *with_gaps(times, step_s, provisional), color=colour, linewidth=0.6, alpha=0.6, label="provisional"
    )
    settled = estimates[f"settled_{target}"].astype(np.float64)
    axes.plot(*with_gaps(times, step_s, settled), color=colour, linewidth=1.5, label="settled")
    axes.set_ylim(-1.05, 1.05)
    axes.set_ylabel(target)
    axes.grid(alpha=0.2)
    axes.legend(
        loc="lower right", bbox_to_anchor=(1, 0.99), fontsize="x-small", ncols=3, frameon=False, borderpad=0
    )


def with_gaps(
    times: NDArray[np.float64], step_s: float, *series: NDArray[np.float64]
) -> tuple[NDArray[np.float64], ...]:
    """Times and series (N,) with NaN put in where frames are missing: no line bridges what was not seen."""
    holes = np.flatnonzero(np.diff(times) > GAP_PERIODS * step_s) + 1
    middles = (times[holes - 1] + times[holes]) / 2 if len(holes) else np.empty(0)
    return (np.insert(times, holes, middles), *(np.insert(each, holes, np.nan) for each in series))


def _draw_presence(axes: Axes, session: SessionFolder) -> None:
    words = word_spans(session)
    spans = {**{what: presence_spans(session, what) for what in PRESENCES}, "words": words}
    for row, what in enumerate(reversed(_ROWS)):
        bars = [(span.start_s, span.end_s - span.start_s) for span in spans[what]]
        axes.broken_barh(bars, (row - 0.3, 0.6), color=_ROW_COLOURS[what], alpha=0.45, linewidth=0)
    axes.set_yticks(range(len(_ROWS)), list(reversed(_ROWS)))
    axes.set_ylim(-0.6, len(_ROWS) - 0.4)
    for spine in ("top", "right"):
        axes.spines[spine].set_visible(False)
    if len(words) <= WORDS_SHOWN:
        for word in words:
            middle_s = (word.start_s + word.end_s) / 2
            axes.text(middle_s, 0, word.text, fontsize=6, ha="center", va="center", rotation=35, clip_on=True)


def _draw_markers(all_axes: Sequence[Axes], session: SessionFolder) -> None:
    points = marker_points(session)
    for time_s, text in points:
        for axes in all_axes:
            axes.axvline(time_s, color=LABEL, linewidth=0.8, linestyle=":")
        if len(points) <= MARKERS_NAMED:
            within = all_axes[1].get_xaxis_transform()
            all_axes[1].text(
                time_s,
                0.03,
                f" {text}",
                transform=within,
                fontsize="x-small",
                rotation=90,
                ha="left",
                va="bottom",
            )
    if points:
        _, right = all_axes[0].get_xlim()
        all_axes[0].set_xlim(right=max(right, points[-1][0] + MARKER_S))


def draw_plane(session: SessionFolder, title: str) -> bytes:
    """Where on the plane the person was, by time; mean and standard deviations as an ellipse."""
    from matplotlib.patches import Ellipse

    figure = Figure(figsize=(5.6, 5.2), layout="constrained")
    figure.suptitle(title, fontsize="medium")
    axes = figure.subplots()
    valence, arousal = values(session, "valence"), values(session, "arousal")
    times = session.estimates["time_s"]
    axes.axhline(0, color="#999999", linewidth=0.6)
    axes.axvline(0, color="#999999", linewidth=0.6)
    axes.add_patch(Ellipse((0, 0), 2, 2, fill=False, color="#cccccc", linewidth=0.8))
    shown = axes.scatter(valence, arousal, c=times, s=7, cmap="viridis", alpha=0.7, linewidths=0)
    figure.colorbar(shown, ax=axes, label="media time in seconds", shrink=0.85)
    if len(times):
        middle = (float(np.nanmean(valence)), float(np.nanmean(arousal)))
        sizes = 2 * float(np.nanstd(valence)), 2 * float(np.nanstd(arousal))
        axes.add_patch(Ellipse(middle, *sizes, fill=False, color=LABEL, linewidth=1.2))
        axes.plot(*middle, marker="+", color=LABEL, markersize=9, label="mean, one standard deviation")
        axes.legend(loc="lower left", fontsize="x-small")
    axes.set_xlim(-1.05, 1.05)
    axes.set_ylim(-1.05, 1.05)
    for set_ticks in (axes.set_xticks, axes.set_yticks):
        set_ticks((-1, -0.5, 0, 0.5, 1))
    axes.set_aspect("equal")
    axes.set_xlabel("valence: unpleasant to pleasant")
    axes.set_ylabel("arousal: calm to excited")
    return png(figure)
