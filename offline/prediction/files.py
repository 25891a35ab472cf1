"""Predictions as files, none half-written: a CSV for each trial, all scores, and the challenge's submission."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Final

import numpy as np

from models.errors import UserError
from models.spec import TARGETS, Target
from offline.files import Json, write_json, write_text
from offline.prediction.predict import Floats, Prediction

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from models.bundle.load import Bundle
    from offline.prediction.scorecard import Outcome

SUBMISSION_HEADER: Final = "image_location,valence,arousal"
DIGITS: Final = 6


def submission_text(predictions: Iterable[Prediction]) -> str:
    """The challenge's form: a row `<trial>/<00001>.jpg,valence,arousal` for each frame, trials in their order.

    Raises UserError where there is only one target: a submission has both.
    """
    lines = [SUBMISSION_HEADER]
    for prediction in predictions:
        check_targets(prediction.targets)
        lines += [
            f"{prediction.trial}/{frame:05d}.jpg,{_number(valence)},{_number(arousal)}"
            for frame, (valence, arousal) in enumerate(prediction.value, start=1)
        ]
    return "\n".join(lines) + "\n"


def trial_text(prediction: Prediction) -> str:
    """One trial as CSV, a row for each frame, numbered from 1 as Aff-Wild2's images are.

    The merged value, its spread, each fold's own clipped output, and the label, empty where there is none.
    """
    targets = prediction.targets
    folds = prediction.clipped_folds
    header = ["frame", "time_s", *targets, *(f"spread_{t}" for t in targets)]
    header += [f"fold_{f}_{t}" for f in range(len(folds)) for t in targets]
    header += [f"label_{t}" for t in targets]
    columns = np.concatenate(
        [prediction.times[:, None], prediction.value, prediction.spread, *folds, prediction.labels], axis=1
    )
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for frame, row in enumerate(columns, start=1):
        writer.writerow([frame, *("" if np.isnan(x) else _number(x) for x in row)])
    return text.getvalue()


def read_trial(path: Path) -> Prediction:
    """What `trial_text` wrote, for plots; its context is not in the file and taken from the folder's name.

    Raises UserError where the file is no such CSV.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
        header, body = rows[0], rows[1:]
        table = np.array([[float(x) if x else np.nan for x in row] for row in body], np.float64)
        table = table.reshape(len(body), len(header))
        targets = tuple(t for t in TARGETS if t in header)
        folds = sum(name.startswith("fold_") for name in header) // max(len(targets), 1)

        def columns(*names: str) -> Floats:
            return table[:, [header.index(name) for name in names]]

        return Prediction(
            trial=path.stem,
            context="windows" if path.parent.name == "windows" else "stream",
            targets=targets,
            times=columns("time_s")[:, 0],
            folds=np.stack([columns(*(f"fold_{f}_{t}" for t in targets)) for f in range(folds)]),
            value=columns(*targets),
            spread=columns(*(f"spread_{t}" for t in targets)),
            labels=columns(*(f"label_{t}" for t in targets)),
        )
    except OSError as e:
        raise UserError(f"{path} cannot be read ({e.strerror or e}): give a file that can") from e
    except (ValueError, IndexError, csv.Error) as e:
        raise UserError(
            f"{path} is no prediction written by offline-predict --out: give a file that is"
        ) from e


def write_trials(folder: Path, predictions: Iterable[Prediction]) -> None:
    """Write `<context>/<trial>.csv` for each. Raises UserError where that cannot be done."""
    for prediction in predictions:
        write_text(folder / prediction.context / f"{prediction.trial}.csv", trial_text(prediction))


def write_submission(path: Path, predictions: Sequence[Prediction]) -> None:
    """Write the challenge's submission file. Raises UserError as `submission_text`, or where it cannot be written."""
    write_text(path, submission_text(predictions))


def write_metrics(folder: Path, bundle: Bundle, source: str, outcome: Outcome) -> None:
    """Write `metrics.json`: all scores, of which bundle, and on what. Raises UserError where it cannot be written."""
    manifest = bundle.manifest
    about: Json = {
        "bundle": {"name": manifest.name, "sha256": bundle.content_hash, "trained": manifest.trained},
        "source": source,
        "targets": list(bundle.ensemble.targets),
    }
    write_json(folder / "metrics.json", about | outcome.to_json())


def check_targets(targets: Sequence[Target]) -> None:
    """Hold a submission to both targets. Raises UserError where there is only one."""
    if tuple(targets) != TARGETS:
        raise UserError(
            f"a submission has valence and arousal, this bundle estimates {' and '.join(targets)} alone: "
            "bundle the runs of both targets together"
        )


def _number(value: float) -> str:
    return f"{value:.{DIGITS}f}"
