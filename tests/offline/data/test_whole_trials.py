"""One fold's network and the ensemble of all folds are taken over a trial in the same way."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.networks.ensemble import Ensemble
from models.spec import COMPACT, Modality, WindowSpec
from offline.data.whole_trials import TrialEmbeddings, run_stream, run_windows
from tests.models.small_networks import make_network, random_embeddings

FRAMES = 45
SHORT = WindowSpec(length=16, hop=10)
NETWORKS = [make_network(COMPACT, seed) for seed in (1, 2)]


def embeddings(missing: frozenset[Modality] = frozenset()) -> TrialEmbeddings:
    return TrialEmbeddings(random_embeddings(COMPACT, 1, FRAMES, 3), missing)


def for_ensemble(trial: TrialEmbeddings) -> TrialEmbeddings:
    """The same with a leading axis of the networks that share it, and one visual embedding for each network."""
    stacked = {m: x[None] for m, x in trial.embeddings.items()}
    visual = stacked[Modality.VISUAL].repeat(len(NETWORKS), 1, 1, 1)
    return TrialEmbeddings(stacked | {Modality.VISUAL: visual}, trial.missing)


@pytest.mark.parametrize("missing", [frozenset(), frozenset({Modality.AUDIO})], ids=["whole", "masked"])
def test_each_fold_gives_the_same_alone_and_in_the_ensemble(missing: frozenset[Modality]) -> None:
    trial = embeddings(missing)
    ensemble = Ensemble.from_folds(NETWORKS)
    stream, windows = (
        run_stream(ensemble, for_ensemble(trial), 20),
        run_windows(ensemble, for_ensemble(trial), SHORT),
    )
    assert stream.shape == windows.shape == (2, FRAMES, 2)
    assert stream.dtype == windows.dtype == np.float32
    for i, network in enumerate(NETWORKS):
        assert np.allclose(run_stream(network, trial), stream[i], atol=1e-5)
        assert np.allclose(run_windows(network, trial, SHORT), windows[i], atol=1e-5)


def test_what_is_missing_does_not_count() -> None:
    trial = embeddings().without(Modality.LANGUAGE)
    other = TrialEmbeddings(
        trial.embeddings | {Modality.LANGUAGE: torch.randn(trial.embeddings[Modality.LANGUAGE].shape)},
        trial.missing,
    )
    assert trial.available.shape == (1, FRAMES, 3)
    assert trial.available[0, 0].tolist() == [True, True, False]
    assert np.array_equal(run_stream(NETWORKS[0], trial), run_stream(NETWORKS[0], other))
    assert np.array_equal(run_windows(NETWORKS[0], trial, SHORT), run_windows(NETWORKS[0], other, SHORT))
    assert embeddings().without(None).missing == frozenset()
