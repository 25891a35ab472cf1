"""Each fold's best network on the part that it validated on, as training saw it: what a report plots."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models.errors import UserError
from offline.data.folds import check_split
from offline.data.store import STORE, Store, recipe_differences
from offline.prediction.predict import Prediction
from offline.training.batches import TrainingInputs
from offline.training.run import hash_store
from offline.training.validate import run_network

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from offline.training.results import TrainedFold, TrainedRun


def find_store(run: TrainedRun, places: Sequence[Path]) -> Store | None:
    """The store that a run was trained on, if it lies in one of `places` under its recorded name, unchanged."""
    name = str(run.record.get("store", ""))
    for place in places:
        folder = place / name
        if name and (folder / STORE).is_file():
            store = Store.open(folder)
            if hash_store(store) == run.record.get("store_hash"):
                return store
    return None


def check_store(run: TrainedRun, store: Store) -> None:
    """Hold a store to a run: the same features, every trial of the split. Raises UserError."""
    differences = recipe_differences(store.recipe, run.recipe)
    if differences:
        raise UserError(
            f"{run.folder.path} was trained on other features than the store {store.folder}: "
            f"{'; '.join(differences)}",
            way_out="give --store, the one that it was trained on",
        )
    check_split(run.split, store.trials(), run.folder.split)


def validation_predictions(
    run: TrainedRun,
    fold: TrainedFold,
    store: Store,
    progress: Callable[[int], None] = lambda frames: None,
) -> Iterator[Prediction]:
    """A fold's estimates of each trial of its own validation part, in the run's context, clipped to [-1, 1].

    `progress` is told of every trial's frames. Raises UserError where files are damaged or do not fit.
    """
    options = run.options.model_copy(update={"device": "cpu", "cache_trunk": 0})
    trials = [store.trial(name) for name in run.split.fold(fold.number).validation]
    network = fold.network(run.spec)
    with tempfile.TemporaryDirectory(prefix="affectstream-") as cache:
        inputs = TrainingInputs(store, trials, run.pretrained(), options, Path(cache), "")
        for trial in trials:
            embeddings = inputs.embeddings(network, trial)
            outputs = run_network(network, embeddings, options.window_spec, options.context).astype(
                np.float64
            )
            yield Prediction(
                trial=trial.name,
                context=options.context,
                targets=run.spec.targets,
                times=np.array(trial.times, np.float64),
                folds=outputs[None],
                value=np.clip(outputs, -1.0, 1.0),
                spread=np.zeros(outputs.shape),
                labels=inputs.labels(trial).astype(np.float64),
            )
            progress(trial.frames)
