"""How the cost of a frame grows with folds, window and frame rate: the estimator alone, on made-up frames.

What each costs is what `stream.estimation.estimator` does with a frame: embeddings, branches, fusion, centering, and
settling it. The frame rate does not change a frame's cost, only how many there are; the window changes how much of
the past may be revised when words change, and how much centering remembers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.measuring import Table, Timing, in_turns, time_in_turns
from models.bundle.load import load_bundle
from models.bundle.untrained import make_untrained_bundle
from models.speech.words import Settled
from stream.estimation.estimator import Estimator, EstimatorState
from stream.perception.features import Availability, FrameFeatures

if TYPE_CHECKING:
    from pathlib import Path

FRAME_RATE = 30.0
_SETTLING_S = 1.0


class Watched:
    """An estimator that has seen a whole window, and goes on frame by frame."""

    def __init__(self, folder: Path, window: int) -> None:
        self._estimator = Estimator(load_bundle(folder), None, window=window)
        self._state: EstimatorState = self._estimator.initial_state()
        self._random = np.random.default_rng(7)
        self._index = 0
        for _ in range(window):
            self.step()

    def step(self) -> None:
        """One frame more; one settles for it, a second late."""
        time_s = self._index / FRAME_RATE
        features = FrameFeatures(
            index=self._index,
            time_s=time_s,
            captured_at=time_s,
            crop=self._random.integers(0, 256, (48, 48, 3)).astype(np.uint8),
            patch=self._random.normal(-1, 1, (96, 64)).astype(np.float32),
            face=True,
            available=Availability(language=False),
        )
        self._index += 1
        said = Settled(max(0.0, time_s - _SETTLING_S))
        self._state, _ = self._estimator.step(self._state, features, (said,))


def run(*, quick: bool, folder: Path) -> Table:
    """The table, on the compact preset."""
    rounds = 31 if quick else 151
    cases = {(folds, 300): f"{folds} fold{'s' * (folds > 1)}" for folds in (1, 2, 3, 6)}
    cases |= {(6, window): f"window of {window}" for window in (100, 600)}
    watched = {}
    for (folds, window), name in cases.items():
        bundle = folder / f"growth-{folds}"
        if not bundle.exists():
            make_untrained_bundle(bundle, "compact", folds)
        watched[name] = Watched(bundle, window)
    times = time_in_turns({name: w.step for name, w in watched.items()}, rounds=rounds)
    whole = times["6 folds"]
    rows = [
        [
            name,
            str(times[name]),
            _relative_to(times[name], whole),
            *(_share(times[name], r) for r in (15, 30, 60)),
        ]
        for name in cases.values()
    ]
    return Table(
        "How a frame's cost grows with folds, window and frame rate (estimator alone, compact, eager)",
        (
            "six folds, window of 300, but",
            "ms a frame: median (p10 to p90)",
            "beside six folds",
            "of a core at 15 frames/s",
            "at 30",
            "at 60",
        ),
        rows,
        (
            in_turns("All"),
            "Words are left out: what they cost depends on what is said, not on the frame.",
        ),
    )


def _relative_to(timing: Timing, whole: Timing) -> str:
    return f"{timing.median / whole.median:.2f} x"


def _share(timing: Timing, frame_rate: int) -> str:
    return f"{timing.median * frame_rate / 10:.0f} %"
