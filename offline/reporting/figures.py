"""Figures of a report, as PNG: training curves, and predicted against labelled. Drawn without a display."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

import numpy as np
from matplotlib.figure import Figure

from offline.metrics import score

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes

    from models.spec import Target
    from offline.prediction.predict import Prediction
    from offline.training.results import Epoch

COLOURS: Final[dict[Target, str]] = {"valence": "#1f6fb4", "arousal": "#d9661f"}
LABEL: Final = "#333333"
_DPI: Final = 100
_PHASES: Final = ("#ffffff", "#eef2f7", "#dfe7f0", "#cfdbe8")


def draw_curves(history: Sequence[Epoch], title: str) -> bytes:
    """One fold: loss, validation CCC with the best epoch marked, learning rate; phases as background bands."""
    figure = Figure(figsize=(9, 6.5), layout="constrained")
    figure.suptitle(title)
    loss, ccc, rate = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 2))
    epochs = [e.epoch for e in history]
    marker = "o" if len(history) == 1 else None
    loss.plot(epochs, [e.loss for e in history], color=LABEL, marker=marker)
    loss.set_ylabel("training loss\n(1 - CCC)")
    for target in history[0].validation_ccc:
        values = [e.validation_ccc.get(target, np.nan) for e in history]
        ccc.plot(epochs, values, color=COLOURS[target], label=target, marker=marker)
    best = [e.epoch for e in history if e.best]
    if best:
        ccc.axvline(best[-1], color=LABEL, linestyle=":", label=f"best: epoch {best[-1]}")
    ccc.set_ylabel("validation CCC")
    ccc.legend(loc="lower right", fontsize="small")
    rate.plot(epochs, [e.learning_rate for e in history], color=LABEL, marker=marker)
    rate.set_yscale("log")
    rate.set_ylabel("learning rate")
    rate.set_xlabel("epoch")
    for axes in (loss, ccc, rate):
        _shade_phases(axes, history)
        axes.grid(alpha=0.25)
    for begin, _, released in _phases(history):
        loss.text(
            begin, 1.01, released, transform=loss.get_xaxis_transform(), fontsize="x-small", va="bottom"
        )
    return png(figure)


def draw_overview(histories: Mapping[int, Sequence[Epoch]], title: str) -> bytes:
    """All folds of a run: validation CCC of each target over the epochs."""
    targets = list(
        dict.fromkeys(t for history in histories.values() for e in history for t in e.validation_ccc)
    )
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    figure.suptitle(title)
    for axes, target in zip(
        figure.subplots(1, len(targets), sharey=True, squeeze=False)[0], targets, strict=True
    ):
        for fold, history in histories.items():
            values = [e.validation_ccc.get(target, np.nan) for e in history]
            axes.plot([e.epoch for e in history], values, label=f"fold {fold}", linewidth=1.2)
        axes.set_title(f"validation CCC, {target}", fontsize="medium")
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.25)
        axes.legend(fontsize="x-small")
    return png(figure)


def draw_trial(prediction: Prediction, title: str) -> bytes:
    """One trial over time: the label, the estimate, and the spread between folds where there is more than one."""
    targets = prediction.targets
    figure = Figure(figsize=(9, 1.9 * len(targets) + 0.6), layout="constrained")
    figure.suptitle(title, fontsize="medium")
    for k, (axes, target) in enumerate(
        zip(figure.subplots(len(targets), 1, sharex=True, squeeze=False)[:, 0], targets, strict=True)
    ):
        value, spread = prediction.value[:, k], prediction.spread[:, k]
        if spread.any():
            low, high = np.clip(value - spread, -1, 1), np.clip(value + spread, -1, 1)
            axes.fill_between(prediction.times, low, high, color=COLOURS[target], alpha=0.2, linewidth=0)
        axes.plot(prediction.times, prediction.labels[:, k], color=LABEL, linewidth=1.2, label="label")
        axes.plot(prediction.times, value, color=COLOURS[target], linewidth=1.2, label="predicted")
        found = score(value, prediction.labels[:, k])
        said = "no labels" if found is None else f"CCC {found.ccc:.3f}, RMSE {found.rmse:.3f}"
        axes.set_title(f"{target}: {said}", fontsize="small", loc="left")
        axes.set_ylim(-1.05, 1.05)
        axes.grid(alpha=0.25)
        axes.legend(loc="upper right", fontsize="x-small")
    axes.set_xlabel("seconds")
    return png(figure)


def draw_agreement(predictions: Sequence[Prediction], title: str) -> bytes:
    """All labelled frames of some trials: predicted against labelled, darker where there are more."""
    targets = predictions[0].targets
    figure = Figure(figsize=(4.4 * len(targets), 4.4), layout="constrained")
    figure.suptitle(title, fontsize="medium")
    values = np.concatenate([p.value for p in predictions])
    labels = np.concatenate([p.labels for p in predictions])
    for k, (axes, target) in enumerate(
        zip(figure.subplots(1, len(targets), squeeze=False)[0], targets, strict=True)
    ):
        known = ~np.isnan(labels[:, k])
        axes.plot([-1, 1], [-1, 1], color="#999999", linewidth=0.8)
        counts = np.histogram2d(labels[known, k], values[known, k], bins=60, range=[[-1, 1], [-1, 1]])[0]
        shown = np.ma.masked_equal(counts.T, 0)
        axes.imshow(shown, origin="lower", extent=(-1, 1, -1, 1), cmap="viridis_r", norm="log")
        found = score(values[:, k], labels[:, k])
        said = "" if found is None else f": CCC {found.ccc:.3f} over {found.frames} frames"
        axes.set_title(f"{target}{said}", fontsize="small")
        axes.set_xticks((-1, -0.5, 0, 0.5, 1))
        axes.set_yticks((-1, -0.5, 0, 0.5, 1))
        axes.set_xlabel("labelled")
        axes.set_ylabel("predicted")
    return png(figure)


def _phases(history: Sequence[Epoch]) -> list[tuple[float, float, str]]:
    """(begin, end, what is released) of each phase, on the epoch axis."""
    found: list[tuple[float, float, str]] = []
    for phase in dict.fromkeys(e.phase for e in history):
        own = [e for e in history if e.phase == phase]
        said = "released: " + ", ".join(own[0].released) if own[0].released else "backbone frozen"
        found.append((own[0].epoch - 0.5, own[-1].epoch + 0.5, said))
    return found


def _shade_phases(axes: Axes, history: Sequence[Epoch]) -> None:
    for i, (begin, end, _) in enumerate(_phases(history)):
        axes.axvspan(begin, end, color=_PHASES[i % len(_PHASES)], zorder=0)


def png(figure: Figure) -> bytes:
    """The figure's file."""
    # Without the software's version in it, so that the same numbers give the same file.
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=_DPI, metadata={"Software": None})
    return file.getvalue()
