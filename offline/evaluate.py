"""One fold's network over whole trials, and how well it agrees with the labels (report section 3.4)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.centering import ccc
from models.errors import UserError
from models.network import EmotionNetwork
from models.spec import Modality, Target, WindowSpec
from offline.inputs import Inputs
from offline.options import Context
from offline.store import TrialRecord
from offline.windows import average_windows, cut_windows

WINDOWS_AT_ONCE = 8


@dataclass(frozen=True)
class Scores:
    """Agreement over all labelled frames together. PCC is 0 where a series is constant."""

    ccc: float
    rmse: float
    pcc: float
    frames: int


@torch.no_grad()
def predict_trial(
    network: EmotionNetwork, embeddings: Mapping[Modality, Tensor], spec: WindowSpec, context: Context
) -> NDArray[np.float32]:
    """A trial's estimates (N, K) from its embeddings (1, N, E_m), not clipped; `network` is in eval mode.

    `windows`: each window from a fresh state, overlaps averaged (the report's way). `stream`: one causal pass.
    """
    if context == "stream":
        whole: NDArray[np.float32] = network(embeddings)[0].float().cpu().numpy()
        return whole
    frames = next(iter(embeddings.values())).shape[1]
    windows = cut_windows(frames, spec)
    predictions: list[NDArray[np.float32]] = []
    for i in range(0, len(windows), WINDOWS_AT_ONCE):
        some = windows[i : i + WINDOWS_AT_ONCE]
        # The network is causal, so padding behind the end would change nothing: a short trial goes in as it is.
        batch = {m: torch.cat([x[:, w.start : w.stop] for w in some]) for m, x in embeddings.items()}
        predictions += list(network(batch).float().cpu().numpy())
    return average_windows(windows, predictions, frames)


def evaluate(
    network: EmotionNetwork,
    inputs: Inputs,
    trials: Sequence[TrialRecord],
    spec: WindowSpec,
    context: Context,
    *,
    cached: bool,
) -> dict[Target, Scores]:
    """Scores per target over all trials, concatenated frame by frame; leaves `network` in eval mode.

    Raises UserError where no frame is labelled, or an estimate is not finite.
    """
    network.eval()
    estimates, labels = [], []
    for trial in trials:
        embeddings = inputs.embeddings(network, trial, cached=cached)
        estimates.append(predict_trial(network, embeddings, spec, context))
        labels.append(inputs.labels(trial))
    y, g = np.concatenate(estimates), np.concatenate(labels)
    return {target: score(y[:, k], g[:, k], target) for k, target in enumerate(network.spec.targets)}


def score(estimates: NDArray[np.float32], labels: NDArray[np.float32], what: str) -> Scores:
    """Scores of one series (N,) against labels that are NaN where there is none. Raises UserError as `evaluate`."""
    known = ~np.isnan(labels)
    if not known.any():
        raise UserError(
            f"no frame of the validation part has a label for {what}: nothing to judge training by"
        )
    y, g = estimates[known].astype(np.float64), labels[known].astype(np.float64)
    if not np.isfinite(y).all():
        raise UserError(
            f"the network's estimates of {what} are not finite: training has diverged, lower the learning rate"
        )
    deviations = y - y.mean(), g - g.mean()
    scale = math.sqrt(float((deviations[0] ** 2).sum() * (deviations[1] ** 2).sum()))
    return Scores(
        ccc=ccc(y, g),
        rmse=math.sqrt(float(((y - g) ** 2).mean())),
        pcc=float((deviations[0] * deviations[1]).sum()) / scale if scale > 0 else 0.0,
        frames=int(known.sum()),
    )
