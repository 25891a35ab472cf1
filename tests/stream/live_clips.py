"""A live source's ticks with sound beside them, and an estimator that is too slow for them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from stream.estimation.estimator import Estimator, EstimatorState
from tests.stream.scripted import frame, sound

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stream.estimation.batching import Moment
    from stream.messages import Estimate
    from stream.sources.events import SourceEvent

TICK = 1 / 30


class SlowEstimator(Estimator):
    """An estimator on a machine that needs so long for a frame."""

    seconds = 0.02

    def answer(
        self, state: EstimatorState, moments: Sequence[Moment]
    ) -> tuple[EstimatorState, tuple[Estimate, ...]]:
        time.sleep(self.seconds * len(moments))
        return super().answer(state, moments)


def live_clip(frames: int, *, sound_until: float = float("inf"), lag_s: float = 0.0) -> Iterator[SourceEvent]:
    """Ticks as a live source gives them, with sound that comes `lag_s` late and stops."""
    heard = 0
    for i in range(frames):
        while (heard + 1) * TICK <= min(i * TICK - lag_s, sound_until):
            yield sound(heard * TICK, (heard + 1) * TICK)
            heard += 1
        yield frame(i)
