"""What predictions are worth: every fold and the centered merge, by trial, by partition, and with a branch masked."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from models.spec import Modality, Target
from offline.metrics import TargetScores, score_targets
from offline.training.options import Context

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from offline.data.folds import FoldSplit
    from offline.files import Json
    from offline.prediction.predict import Prediction, TrialPredictions


@dataclass(frozen=True)
class Scored:
    """One trial, or several as one series: `frames` in all, and who agreed how well with the labels."""

    name: str
    frames: int
    centered: TargetScores
    folds: tuple[TargetScores, ...]

    @property
    def labelled(self) -> bool:
        """Whether there was any label to hold estimates to."""
        return bool(self.centered)

    def to_json(self) -> Json:
        """For `metrics.json`."""
        return {
            "frames": self.frames,
            "centered": _scores_json(self.centered),
            "folds": [_scores_json(fold) for fold in self.folds],
        }


@dataclass(frozen=True)
class Scorecard:
    """Predictions in one context: all trials concatenated frame by frame, and each one's own."""

    context: Context
    targets: tuple[Target, ...]
    whole: Scored
    trials: tuple[Scored, ...]

    def to_json(self) -> Json:
        """For `metrics.json`."""
        return {"partition": self.whole.to_json(), "trials": {t.name: t.to_json() for t in self.trials}}


Ablations = dict[Context, dict[Modality, TargetScores]]
"""The centered merge's scores over a partition, with each branch masked."""


def make_scorecard(name: str, predictions: Sequence[Prediction]) -> Scorecard:
    """Score predictions of one context, `name` being what they are together (a partition)."""
    return Scorecard(
        context=predictions[0].context,
        targets=predictions[0].targets,
        whole=_score(name, predictions),
        trials=tuple(_score(p.trial, [p]) for p in predictions),
    )


def score_values(predictions: Sequence[Prediction]) -> TargetScores:
    """Scores of the centered merge over all predictions, concatenated."""
    values = np.concatenate([p.value for p in predictions])
    return score_targets(values, np.concatenate([p.labels for p in predictions]), predictions[0].targets)


@dataclass(frozen=True)
class OwnFoldScores:
    """Each fold on the part that it validated on, by the fold's number, and all those parts together."""

    folds: dict[int, TargetScores]
    trials: dict[int, int]
    pooled: TargetScores

    def to_json(self) -> Json:
        """For `metrics.json`."""
        folds = {
            str(k): {"trials": self.trials[k], **_scores_json(scores)} for k, scores in self.folds.items()
        }
        return {"folds": folds, "pooled": _scores_json(self.pooled)}


def score_own_folds(
    split: FoldSplit, numbers: Sequence[int], predictions: Mapping[str, Prediction]
) -> OwnFoldScores:
    """Each fold on its own validation part: `numbers[i]` is the split's number of the predictions' fold i.

    Predictions are by trial. A fold's part whose trials are not there is left out.
    """
    folds: dict[int, TargetScores] = {}
    counts: dict[int, int] = {}
    values, labels = [], []
    targets: tuple[Target, ...] = ()
    for index, number in enumerate(numbers):
        own = [predictions[n] for n in split.fold(number).validation if n in predictions]
        if not own:
            continue
        targets = own[0].targets
        y = np.concatenate([p.clipped_folds[index] for p in own])
        g = np.concatenate([p.labels for p in own])
        folds[number], counts[number] = score_targets(y, g, targets), len(own)
        values.append(y)
        labels.append(g)
    pooled = score_targets(np.concatenate(values), np.concatenate(labels), targets) if values else {}
    return OwnFoldScores(folds, counts, pooled)


@dataclass(frozen=True, eq=False)
class Outcome:
    """All predictions by context, and what those with labels are worth: scorecards, or each fold on its own part."""

    predictions: dict[Context, list[Prediction]]
    cards: tuple[Scorecard, ...] = ()
    ablations: Ablations = field(default_factory=dict)
    own: tuple[tuple[Context, OwnFoldScores], ...] = ()

    @property
    def labelled(self) -> bool:
        """Whether there is a scorecard with a score on it."""
        return bool(self.cards) and self.cards[0].whole.labelled

    def to_json(self) -> Json:
        """For `metrics.json`."""
        return {
            "contexts": {card.context: card.to_json() for card in self.cards},
            "ablation": {
                context: {f"without {m.value}": _scores_json(scores) for m, scores in by_branch.items()}
                for context, by_branch in self.ablations.items()
            },
            "own_folds": {context: scores.to_json() for context, scores in self.own},
        }


def score_predictions(name: str, found: TrialPredictions) -> Outcome:
    """Score what was predicted, `name` being what the trials are together."""
    return Outcome(
        predictions=found.whole,
        cards=tuple(make_scorecard(name, predictions) for predictions in found.whole.values()),
        ablations={
            context: {m: score_values(predictions) for m, predictions in by_branch.items()}
            for context, by_branch in found.masked.items()
            if by_branch
        },
    )


def _score(name: str, predictions: Sequence[Prediction]) -> Scored:
    labels = np.concatenate([p.labels for p in predictions])
    folds = np.concatenate([p.clipped_folds for p in predictions], axis=1)
    targets = predictions[0].targets
    return Scored(
        name=name,
        frames=len(labels),
        centered=score_values(predictions),
        folds=tuple(score_targets(fold, labels, targets) for fold in folds),
    )


def _scores_json(scores: TargetScores) -> Json:
    return {target: asdict(found) for target, found in scores.items()}
