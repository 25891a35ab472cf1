"""One fold's network over whole trials, and how well it agrees with the labels (report section 3.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.errors import UserError
from offline.data.whole_trials import run_stream, run_windows
from offline.metrics import TargetScores, score_targets

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

    from models.networks.fold import EmotionNetwork
    from models.spec import Target, WindowSpec
    from offline.data.store import TrialRecord
    from offline.data.whole_trials import TrialEmbeddings
    from offline.training.batches import TrainingInputs
    from offline.training.options import Context


def run_network(
    network: EmotionNetwork, trial: TrialEmbeddings, spec: WindowSpec, context: Context
) -> NDArray[np.float32]:
    """A trial's estimates (N, K) from its embeddings, not clipped; `network` is in eval mode.

    `windows`: each window from a fresh state, overlaps averaged (the report's way). `stream`: one causal pass.
    """
    return run_stream(network, trial) if context == "stream" else run_windows(network, trial, spec)


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
            raise UserError(
                f"no frame to validate on has a label for {target}, so there is nothing to judge training by",
                way_out="preprocess validation trials that have labels",
            )
    if not np.isfinite(estimates[~np.isnan(labels).any(axis=1)]).all():
        raise UserError(
            "the network's estimates are not finite: training has diverged, lower --learning-rate"
        )
    return score_targets(estimates, labels, targets)
