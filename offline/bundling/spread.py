"""How wrong a bundle's estimates are on trials that no fold trained on, with whatever there was to go by."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from models.errors import UserError
from models.spec import TARGETS, Modality
from models.spread import SpreadCalibration, fit_spread
from offline.prediction.predict import check_store, embed_trial, predict_trial
from offline.prediction.spread import presence_patterns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.bundle.load import Bundle
    from offline.data.store import Partition, Store

MASKED: Final[tuple[frozenset[Modality], ...]] = (
    frozenset(),
    frozenset({Modality.VISUAL}),
    frozenset({Modality.AUDIO}),
    frozenset({Modality.LANGUAGE}),
    frozenset({Modality.AUDIO, Modality.LANGUAGE}),
    frozenset({Modality.VISUAL, Modality.LANGUAGE}),
    frozenset({Modality.VISUAL, Modality.AUDIO}),
)
"""Each trial is seen whole, and with one or two branches masked: what a person may be seen or heard by alone."""


def calibrate_spread(bundle: Bundle, store: Store, partition: Partition = "test") -> SpreadCalibration:
    """The bundle's spread fitted to a store's trials of one partition, in one causal pass each.

    Raises UserError where the store has no such trial or no label in them, was made in another way, or does not say
    when a voice was heard.
    """
    check_store(bundle, store)
    if bundle.ensemble.targets != TARGETS:
        raise UserError(
            "a spread is calibrated for bundles that estimate valence and arousal, this one does not: "
            "bundle it without --calibrate-from"
        )
    trials = store.trials(partition)
    if not trials:
        raise UserError(
            f"{store.folder} has no {partition} trials to calibrate the spread on: give a store that has some, "
            "or leave out --calibrate-from"
        )
    spreads, errors, patterns = [], [], []
    for trial in trials:
        embeddings = embed_trial(bundle, trial)
        for masked in MASKED:
            if not masked <= set(bundle.ensemble.modalities):
                continue
            seen = replace(embeddings, missing=embeddings.missing | masked)
            prediction = predict_trial(bundle, trial, seen, "stream")
            labels = trial.labels_given(set(bundle.ensemble.modalities) - seen.missing)
            known = ~np.isnan(labels).any(axis=1)
            spreads.append(prediction.folds.std(axis=0)[known])
            errors.append((prediction.value - labels)[known])
            patterns.append(presence_patterns(trial, seen.missing)[known])
    if not sum(map(len, spreads)):
        raise UserError(
            f"{store.folder} has no label in its {partition} trials to calibrate the spread on: give a store "
            "with labels, or leave out --calibrate-from"
        )
    return fit_spread(np.concatenate(spreads), np.concatenate(errors), np.concatenate(patterns))


def describe_spread(calibration: SpreadCalibration) -> Sequence[str]:
    """The calibration in lines for a person: what error to expect where the folds agree, by what is present."""
    lines = []
    for pattern, floor in calibration.floor.items():
        parts = ", ".join(f"{target} {np.sqrt(floor[target]):.2f}" for target in TARGETS)
        lines.append(f"{pattern}: at least {parts}")
    return lines
