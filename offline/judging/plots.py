"""Judgements as pictures, a PNG for each kind, drawn without a display."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

import numpy as np
from matplotlib.figure import Figure

from models.spec import TARGETS, Target
from offline.judging.scoring import Judgement, values_of
from offline.judging.tables import TITLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS: Final[dict[Target, str]] = {"valence": "#1f6fb4", "arousal": "#d9661f"}
_GREY: Final = "#999999"
_MARKERS: Final = ("o", "s", "^")
_DPI: Final = 100


def draw_judgement(judgement: Judgement, bundle: str) -> bytes:
    """PNG: published estimates against labels, and RMSE by spread; clips one by one where nothing is labelled."""
    if not judgement.scores:
        return _draw_clips(judgement, bundle)
    grouped = any(score.groups for score in judgement.scores)
    columns = len(TARGETS) + grouped
    figure = Figure(figsize=(4.4 * columns, 4.6), layout="constrained")
    figure.suptitle(f"{bundle}: {TITLES[judgement.material.kind]}", fontsize="medium")
    subplots = figure.subplots(1, columns)
    for k, target in enumerate(TARGETS):
        _plot_agreement(subplots[k], judgement, k, target)
    if grouped:
        _plot_spread(subplots[-1], judgement)
    return _png(figure)


def _plot_agreement(axes: Axes, judgement: Judgement, k: int, target: Target) -> None:
    """What is published against each set of labels."""
    several = len(judgement.material.labels) > 1
    values = values_of(judgement.estimates, "centered")
    present = np.array([estimate.present for estimate in judgement.estimates])
    axes.plot([-1, 1], [-1, 1], color=_GREY, linewidth=0.8)
    size = 24 if len(values) < 50 else 5
    said = []
    for marker, (against, labels) in zip(_MARKERS, judgement.material.labels.items(), strict=False):
        axes.scatter(labels[~present, k], values[~present, k], s=size, color=_GREY, alpha=0.4, linewidths=0)
        axes.scatter(
            labels[present, k],
            values[present, k],
            s=size,
            marker=marker,
            color=COLOURS[target],
            alpha=0.4,
            linewidths=0,
            label=against,
        )
        key = ("centered", target, against)
        found = next(s.agreement for s in judgement.scores if (s.reading, s.target, s.against) == key)
        if several:
            said.append(f"r {found.pearson:.2f} ({against})")
        else:
            said.append(f"CCC {found.ccc:.3f}, r {found.pearson:.3f} over {found.items}")
    axes.set_title(f"{target}: {', '.join(said)}", fontsize="small")
    axes.set_xlim(-1.05, 1.05)
    axes.set_ylim(-1.05, 1.05)
    by = "votes" if several else next(iter(judgement.material.labels))
    axes.set_xlabel(by if present.all() else f"{by} (grey: nothing found)")
    axes.set_ylabel("estimated, centered")
    axes.grid(alpha=0.25)
    if several:
        axes.legend(fontsize="x-small")


def _plot_spread(axes: Axes, judgement: Judgement) -> None:
    first = judgement.scores[0]
    for score in judgement.scores:
        if (score.subset, score.against) != (first.subset, first.against) or score.groups is None:
            continue
        axes.plot(
            score.groups.spread,
            score.groups.rmse,
            marker="o",
            markersize=4,
            color=COLOURS[score.target],
            linestyle="-" if score.reading == "centered" else ":",
            label=f"{score.target}, {score.reading}",
        )
    axes.set_title("error by spread, five equal groups", fontsize="small")
    axes.set_xlabel("mean spread")
    axes.set_ylabel("RMSE")
    axes.grid(alpha=0.25)
    if axes.lines:
        axes.legend(fontsize="x-small")


def _draw_clips(judgement: Judgement, bundle: str) -> bytes:
    names = judgement.material.names
    figure = Figure(figsize=(9, 1.4 + 0.3 * len(names)), layout="constrained")
    axes = figure.subplots()
    values = values_of(judgement.estimates, "centered")
    rows = np.arange(len(names))
    for k, target in enumerate(TARGETS):
        axes.barh(rows + 0.4 * (k - 0.5), values[:, k], 0.4, color=COLOURS[target], label=target)
    axes.set_yticks(rows, names)
    axes.invert_yaxis()
    axes.axvline(0, color=_GREY, linewidth=0.8)
    axes.set_xlim(-1.05, 1.05)
    axes.set_title(f"{bundle}: {TITLES[judgement.material.kind]}", fontsize="medium")
    axes.set_xlabel("estimated, centered")
    axes.legend(fontsize="x-small")
    axes.grid(alpha=0.25, axis="x")
    return _png(figure)


def _png(figure: Figure) -> bytes:
    # Without the software's version in it, so that the same numbers give the same file.
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=_DPI, metadata={"Software": None})
    return file.getvalue()
