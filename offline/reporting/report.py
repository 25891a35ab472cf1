"""A report on training: curves, predicted against labelled, tables. One HTML file that needs no other, and its PNGs.

Needs matplotlib (the extra `train`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from offline.files import Json, replacing, write_text
from offline.metrics import score
from offline.prediction.scorecard import make_scorecard
from offline.reporting.figures import draw_agreement, draw_curves, draw_overview, draw_trial
from offline.reporting.page import Rows, escape, figure, page_of, table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from offline.prediction.predict import Prediction
    from offline.training.results import TrainedRun

REPORT: Final = "report.html"


@dataclass(frozen=True, eq=False)
class PredictionGroup:
    """Predictions that belong together: a fold's on its own validation part, or a bundle's."""

    title: str
    name: str
    predictions: tuple[Prediction, ...]


@dataclass(frozen=True, eq=False)
class RunMaterial:
    """A run, and each fold's predictions by the fold's number, as far as there are any.

    `name` is the run's on the page and in its figures' file names: no other of the report's has it.
    """

    name: str
    run: TrainedRun
    groups: Mapping[int, PredictionGroup] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Report:
    """The page, and its figures by file name."""

    page: str
    figures: dict[str, bytes] = field(default_factory=dict)


def make_report(
    runs: Sequence[RunMaterial],
    groups: Sequence[PredictionGroup] = (),
    *,
    trials: int = 4,
    notes: Sequence[str] = (),
) -> Report:
    """Draw and lay out everything; of each group's trials `trials` are plotted, from the best to the worst.

    Raises UserError where a run's files are damaged.
    """
    figures: dict[str, bytes] = {}
    body = [f"<p class=note>{escape(note)}</p>" for note in notes]
    for material in runs:
        body += _run_section(material, trials, figures)
    if groups:
        body.append("<h1>Predictions</h1>")
        for group in groups:
            body += _group_section(group, trials, figures)
    names = ", ".join(material.name for material in runs)
    return Report(page_of(f"Report: {names}", body), figures)


def distinct_names(folders: Sequence[Path]) -> list[str]:
    """A name for each of these folders: its own, after as many of its parents' as it takes to tell all apart."""
    paths = [folder.resolve() for folder in folders]
    names = [path.name for path in paths]
    depth, deepest = 1, max((len(path.parts) for path in paths), default=0)
    while len(set(names)) < len(names) and depth < deepest:
        depth += 1
        names = ["-".join(path.parts[1:][-depth:]) for path in paths]
    return names


def write_report(folder: Path, report: Report) -> Path:
    """Write the page and its figures into a folder. Raises UserError where that cannot be done."""
    for name, content in report.figures.items():
        with replacing(folder / name) as file:
            file.write(content)
    write_text(folder / REPORT, report.page)
    return folder / REPORT


def choose_trials(predictions: Sequence[Prediction], count: int) -> list[Prediction]:
    """`count` trials spread evenly from the best to the worst mean CCC; those without labels come last."""
    ranked = sorted(predictions, key=_mean_ccc, reverse=True)
    if len(ranked) <= count:
        return ranked
    if count == 1:
        return [ranked[len(ranked) // 2]]
    places = [round(i * (len(ranked) - 1) / (count - 1)) for i in range(count)]
    return [ranked[place] for place in places]


def _run_section(material: RunMaterial, trials: int, figures: dict[str, bytes]) -> list[str]:
    run, name = material.run, material.name
    histories = {fold.number: fold.history() for fold in run.folds}
    histories = {number: history for number, history in histories.items() if history}
    body = [f"<h1>Run {escape(name)}</h1>", table(*_fold_table(run))]
    if histories:
        overview = draw_overview(histories, f"{name}: all folds")
        body.append(figure(f"{name}-overview.png", overview, figures))
    else:
        body.append("<p>No fold has come to the end of an epoch.</p>")
    body += ["<h2>Options</h2>", table(["option", "value"], _option_rows(run.record["options"]))]
    body += ["<h2>Split</h2>", table(*_split_table(run))]
    for number, history in histories.items():
        body.append(f"<h2>Fold {number}</h2>")
        curves = draw_curves(history, f"{name}, fold {number}")
        body.append(figure(f"{name}-fold-{number}-curves.png", curves, figures))
        if number in material.groups:
            body += _group_section(material.groups[number], trials, figures)
    return body


def _group_section(group: PredictionGroup, trials: int, figures: dict[str, bytes]) -> list[str]:
    labelled = [p for p in group.predictions if not np.isnan(p.labels).all()]
    body = [f"<h3>{escape(group.title)}</h3>"]
    if labelled:
        body.append(table(*_score_table(labelled)))
        agreement = draw_agreement(labelled, group.title)
        body.append(figure(f"{group.name}-agreement.png", agreement, figures))
    for prediction in choose_trials(labelled or group.predictions, trials):
        drawn = draw_trial(prediction, f"{group.name}: {prediction.trial}")
        body.append(figure(f"{group.name}-trial-{prediction.trial}.png", drawn, figures))
    left = len(labelled or group.predictions) - trials
    if left > 0:
        body.append(f"<p>{trials} trials are shown, from the best to the worst; {left} are not.</p>")
    return body


def _fold_table(run: TrainedRun) -> tuple[list[str], Rows]:
    targets = list(run.spec.targets)
    head = ["fold", "state", "epochs", "best epoch", "released"]
    head += [f"{metric} {t}" for metric in ("CCC", "PCC", "RMSE") for t in targets] + ["frames", "time"]
    rows: Rows = []
    by_number = {fold.number: fold for fold in run.folds}
    for number in range(run.split.folds):
        if number not in by_number:
            rows.append([str(number), "missing", *[""] * (len(head) - 2)])
            continue
        result = by_number[number].result
        state = f"finished ({result.get('stopped')})" if by_number[number].finished else "in training"
        scores = [
            _decimal(result.get(f"validation_{metric}", {}).get(t))
            for metric in ("ccc", "pcc", "rmse")
            for t in targets
        ]
        frames = result.get("validation_frames", {})
        rows.append(
            [
                str(number),
                state,
                str(result.get("epochs", "")),
                str(result.get("best_epoch", "")),
                ", ".join(result.get("released", [])) or "nothing",
                *scores,
                str(max(frames.values(), default="")),
                _duration(float(result.get("seconds", 0))),
            ]
        )
    cccs = {t: [fold.validation_ccc[t] for fold in run.folds if t in fold.validation_ccc] for t in targets}
    means = [f"{np.mean(c):.3f} ± {np.std(c):.3f}" if c else "" for c in cccs.values()]
    rows.append(["mean", "", "", "", "", *means, *[""] * (len(head) - 5 - len(means))])
    return head, rows


def _split_table(run: TrainedRun) -> tuple[list[str], Rows]:
    rows: Rows = []
    for number in range(run.split.folds):
        fold = run.split.fold(number)
        shown = ", ".join(fold.validation[:12]) + (", ..." if len(fold.validation) > 12 else "")
        rows.append([str(number), str(len(fold.training)), str(len(fold.validation)), shown])
    return ["fold", "training trials", "validation trials", "validates on"], rows


def _score_table(predictions: Sequence[Prediction]) -> tuple[list[str], Rows]:
    card = make_scorecard("all together", predictions)
    head = ["trial", "frames"] + [f"{metric} {t}" for metric in ("CCC", "PCC", "RMSE") for t in card.targets]
    rows: Rows = []
    for scored in (card.whole, *card.trials):
        found = [scored.centered.get(t) for t in card.targets]
        cells = [
            "" if s is None else _decimal(getattr(s, metric))
            for metric in ("ccc", "pcc", "rmse")
            for s in found
        ]
        rows.append([scored.name, str(scored.frames), *cells])
    return head, rows


def _option_rows(options: Json, prefix: str = "") -> Rows:
    rows: Rows = []
    for name, value in options.items():
        if isinstance(value, dict):
            rows += _option_rows(value, f"{prefix}{name}.")
        else:
            said = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            rows.append([f"{prefix}{name}", said])
    return rows


def _mean_ccc(prediction: Prediction) -> float:
    found = [score(prediction.value[:, k], prediction.labels[:, k]) for k in range(len(prediction.targets))]
    cccs = [s.ccc for s in found if s is not None]
    return float(np.mean(cccs)) if cccs else -2.0


def _decimal(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, int | float) else ""


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{seconds / 60:.1f} min"
