"""How long to wait before trying again what failed: a lost camera, a lost broker. Pure: the draw is given."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random


@dataclass(frozen=True)
class Backoff:
    """Waits that double from `first_s` up to `most_s` seconds, each drawn between half and the whole of that.

    Drawn, so that many machines do not come back all at once. `failures` counts those in a row so far.
    """

    first_s: float = 0.5
    most_s: float = 15.0
    failures: int = 0

    def step(self, random: Random) -> tuple[Backoff, float]:
        """After one more failure: the new state, and the seconds to wait."""
        whole_s = min(self.most_s, self.first_s * 2.0 ** min(self.failures, 60))
        return replace(self, failures=self.failures + 1), whole_s * random.uniform(0.5, 1.0)

    def reset(self) -> Backoff:
        """After a success: the next failure is the first again."""
        return replace(self, failures=0)
