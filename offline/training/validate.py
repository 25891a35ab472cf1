"""One fold's network over whole trials, and how well it agrees with the labels (report section 3.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from models.errors import UserError
from offline.data.windows import average_windows, cut_windows
from offline.metrics import TargetScores, score_targets

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

    from models.networks.fold import EmotionNetwork
    from models.spec import Target, WindowSpec
    from offline.data.store import TrialRecord
    from offline.training.batches import NetworkInputs, TrainingInputs
    from offline.training.options import Context

WINDOWS_AT_ONCE = 8


@torch.no_grad()
def run_network(
    network: EmotionNetwork, trial: NetworkInputs, spec: WindowSpec, context: Context
) -> NDArray[np.float32]:
    """A trial's estimates (N, K) from its embeddings, not clipped; `network` is in eval mode.

    `windows`: each window from a fresh state, overlaps averaged (the report's way). `stream`: one causal pass.
    """
    if context == "stream":
        whole: NDArray[np.float32] = network(trial.embeddings, trial.available)[0].float().cpu().numpy()
        return whole
    frames = trial.available.shape[1]
    windows = cut_windows(frames, spec)
    predictions: list[NDArray[np.float32]] = []
    for i in range(0, len(windows), WINDOWS_AT_ONCE):
        some = windows[i : i + WINDOWS_AT_ONCE]
        # The network is causal, so padding behind the end would change nothing: a short trial goes in as it is.
        batch = {m: torch.cat([x[:, w.start : w.stop] for w in some]) for m, x in trial.embeddings.items()}
        available = torch.cat([trial.available[:, w.start : w.stop] for w in some])
        predictions += list(network(batch, available).float().cpu().numpy())
    return average_windows(windows, predictions, frames)


def evaluate(
    network: EmotionNetwork,
    inputs: TrainingInputs,
    trials: Sequence[TrialRecord],
    spec: WindowSpec,
    context: Context,
    released: Collection[str] | None = None,
) -> TargetScores:
    """Scores per target over all trials, concatenated frame by frame; leaves `network` in eval mode.

    With the groups that training has `released`, by what `TrainingInputs` keeps of all before them.
    Raises UserError where no frame is labelled, or an estimate is not finite.
    """
    network.eval()
    estimates, labels = [], []
    for trial in trials:
        embeddings = inputs.embeddings(network, trial, released)
        estimates.append(run_network(network, embeddings, spec, context))
        labels.append(inputs.labels(trial))
    return judge(np.concatenate(estimates), np.concatenate(labels), network.spec.targets)


def judge(
    estimates: NDArray[np.float32], labels: NDArray[np.float32], targets: Sequence[Target]
) -> TargetScores:
    """Scores per target of estimates and labels (N, K), NaN where there is none. Raises UserError as `evaluate`."""
    for target, column in zip(targets, labels.T, strict=True):
        if np.isnan(column).all():
            raise UserError(f"no frame to validate on has a label for {target}: nothing to judge training by")
    if not np.isfinite(estimates[~np.isnan(labels).any(axis=1)]).all():
        raise UserError(
            "the network's estimates are not finite: training has diverged, lower --learning-rate"
        )
    return score_targets(estimates, labels, targets)
