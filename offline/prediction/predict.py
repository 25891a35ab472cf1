"""A bundle's estimates over whole trials, per fold and centered, in two contexts.

    stream    one causal pass, running centering over 300 frames: what the live engine settles on
    windows   the report's: windows of 300 frames every 200, each from a fresh state, overlaps averaged, and each
              trial's whole series centered: for comparison with published numbers

Either way values are clipped to [-1, 1] last (report section 3.5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.centering import RunningCentering, center
from models.errors import UserError
from models.spec import TARGETS, Modality, Target, WindowSpec
from offline.data.store import Store, TrialRecord, bundle_recipe
from offline.data.whole_trials import (
    TrialEmbeddings,
    embed_crops,
    embed_sound,
    run_stream,
    run_windows,
    stored_embeddings,
    unrecorded,
)
from offline.prediction.spread import expected_error, presence_patterns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.bundle.load import Bundle
    from models.networks.ensemble import Ensemble
    from offline.training.options import Context

Floats = NDArray[np.float64]

CHUNK_FRAMES: Final = 256


@dataclass(frozen=True, eq=False)
class Prediction:
    """The estimates of one trial: N frames, F folds, K targets in the order of `targets`.

    `folds` (F, N, K) are each fold's own outputs, not clipped; `value` (N, K) the centered merge, clipped to
    [-1, 1]; `spread` (N, K) the standard deviation between the centred folds, or of a calibrated bundle the error to
    expect; `times` (N,) seconds from the first frame; `labels` (N, K), NaN where there is none.
    """

    trial: str
    context: Context
    targets: tuple[Target, ...]
    times: Floats
    folds: Floats
    value: Floats
    spread: Floats
    labels: Floats

    @property
    def clipped_folds(self) -> Floats:
        """Each fold's outputs as they are judged and submitted: (F, N, K) in [-1, 1]."""
        return np.clip(self.folds, -1.0, 1.0)


def check_store(bundle: Bundle, store: Store) -> None:
    """Refuse a store whose features are not what the bundle was trained on. Raises UserError that names them."""
    store.check_recipe(bundle_recipe(bundle.manifest), f"the bundle '{bundle.manifest.name}'")


@torch.inference_mode()
def embed_trial(bundle: Bundle, trial: TrialRecord, device: str = "cpu") -> TrialEmbeddings:
    """What the frozen and the folds' own encoders make of a trial, frame by frame: (S or 1, 1, N, E) each.

    A trial without sound has neither sound nor words. Sound is missing too where neither the bundle nor the store
    has its encoder, words where the features were made without a recogniser or a text encoder. The trial's store
    must have passed `check_store`; the bundle is on `device`.
    """
    ensemble, place = bundle.ensemble, torch.device(device)
    embeddings: dict[Modality, Tensor] = {}
    missing = set(unrecorded(trial).intersection(ensemble.modalities))
    for modality in ensemble.modalities:
        found: Tensor | None = None
        if modality is Modality.VISUAL:
            crop = bundle.manifest.recipe.crop
            found = embed_crops(trial, crop, ensemble.embed_visual, place, CHUNK_FRAMES)[:, None]
        elif modality not in missing:
            embed = _embed_sound if modality is Modality.AUDIO else _embed_words
            found = embed(bundle, trial, place)
        if found is None:
            missing.add(modality)
            found = torch.zeros(1, 1, trial.frames, ensemble.embedding(modality), device=place)
        embeddings[modality] = found
    return TrialEmbeddings(embeddings, frozenset(missing))


@torch.inference_mode()
def run_folds(ensemble: Ensemble, trial: TrialEmbeddings, context: Context, spec: WindowSpec) -> Floats:
    """Every fold's outputs over a trial, (F, N, K), not clipped."""
    if context == "stream":
        return run_stream(ensemble, trial, CHUNK_FRAMES).astype(np.float64)
    return run_windows(ensemble, trial, spec).astype(np.float64)


def merge_folds(folds: Floats, context: Context, spec: WindowSpec) -> tuple[Floats, Floats]:
    """The folds' outputs (F, N, K) merged by CCC-centering and clipped: (value (N, K), spread (N, K)).

    Raises ValueError for outputs that are not finite.
    """
    value, spread = np.empty(folds.shape[1:]), np.empty(folds.shape[1:])
    if context == "stream":
        centering = RunningCentering(len(folds), spec.length, folds.shape[2])
        state = centering.initial_state()
        for t in range(folds.shape[1]):
            state, frame = centering.step(state, folds[:, t].T)
            value[t], spread[t] = frame.value, frame.spread
    else:
        for k in range(folds.shape[2]):
            centered = center(folds[:, :, k])
            value[:, k], spread[:, k] = centered.merged, centered.folds.std(axis=0)
    return np.clip(value, -1.0, 1.0), spread


def predict_trial(
    bundle: Bundle,
    trial: TrialRecord,
    embeddings: TrialEmbeddings,
    context: Context,
    spec: WindowSpec | None = None,
) -> Prediction:
    """The estimates of a trial from its embeddings.

    Raises UserError where they are not finite, and of a calibrated bundle where the trial does not say when a voice
    was heard.
    """
    spec = spec or WindowSpec()
    folds = run_folds(bundle.ensemble, embeddings, context, spec)
    try:
        value, spread = merge_folds(folds, context, spec)
    except ValueError as e:
        raise UserError(
            f"the estimates of trial '{trial.name}' are not finite: its features are damaged, remove "
            f"{trial.folder} and run offline-preprocess again"
        ) from e
    calibration = bundle.manifest.spread
    if calibration is not None:
        spread = expected_error(calibration, folds, presence_patterns(trial, embeddings.missing))
    targets = bundle.ensemble.targets
    columns = [TARGETS.index(t) for t in targets]
    return Prediction(
        trial=trial.name,
        context=context,
        targets=targets,
        times=np.array(trial.times, np.float64),
        folds=folds,
        value=value,
        spread=spread,
        labels=np.array(trial.labels, np.float64)[:, columns],
    )


@dataclass(frozen=True, eq=False)
class TrialPredictions:
    """The predictions of some trials, in their order, by context; `masked` are those without one branch."""

    whole: dict[Context, list[Prediction]]
    masked: dict[Context, dict[Modality, list[Prediction]]]


def predict_trials(
    bundle: Bundle,
    trials: Sequence[TrialRecord],
    contexts: Sequence[Context],
    without: Sequence[Modality] = (),
    *,
    device: str = "cpu",
    progress: Callable[[int], None] = lambda frames: None,
) -> TrialPredictions:
    """Predict trials in each context, whole and with each branch of `without` masked; each is embedded once.

    `progress` is told of every trial's frames. Moves the bundle to `device`. Raises UserError where the bundle has no
    such branch, or as `predict_trial`.
    """
    ensemble = bundle.ensemble
    absent = [m.value for m in without if m not in ensemble.modalities]
    if absent:
        raise UserError(
            f"the bundle '{bundle.manifest.name}' has no {absent[0]} branch to ablate: leave it out of --ablate"
        )
    ensemble.to(device)
    if bundle.audio_encoder is not None:
        bundle.audio_encoder.to(device)
    whole: dict[Context, list[Prediction]] = {c: [] for c in contexts}
    masked: dict[Context, dict[Modality, list[Prediction]]] = {c: {m: [] for m in without} for c in contexts}
    for trial in trials:
        embeddings = embed_trial(bundle, trial, device)
        for c in contexts:
            whole[c].append(predict_trial(bundle, trial, embeddings, c))
            for m in without:
                masked[c][m].append(predict_trial(bundle, trial, embeddings.without(m), c))
        progress(trial.frames)
    return TrialPredictions(whole, masked)


def _embed_sound(bundle: Bundle, trial: TrialRecord, device: torch.device) -> Tensor | None:
    """(1, 1, N, E): what the store keeps of the same encoder, or what the bundle's makes of the log-mel."""
    use = bundle.manifest.recipe.audio_encoder
    stored = trial.audio
    if stored is not None and use is not None and not use.bundled:
        return stored_embeddings(stored, device)[None, None]
    encoder = bundle.audio_encoder
    return None if encoder is None else embed_sound(trial, encoder, CHUNK_FRAMES)[None, None]


def _embed_words(bundle: Bundle, trial: TrialRecord, device: torch.device) -> Tensor | None:
    """(1, 1, N, E): the store's word vectors, None where nothing could embed words."""
    vectors = trial.language
    return stored_embeddings(vectors, device)[None, None] if vectors.shape[1] else None
