"""How wrong an estimate may be, told from how far the folds lie apart and from what there was to go by. Pure.

Folds that saw nothing agree with one another, and are wrong together: their spread alone is too sure where little was
there. So the error expected is fitted, on trials that no fold trained on, as

    error^2 = scale x (spread between the folds' own outputs)^2 + floor of what was present

with non-negative coefficients for each target, and its root is what is published.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from models.spec import TARGETS, Target

Floats = NDArray[np.float64]
NotNegative = Annotated[float, Field(ge=0, le=100)]

PATTERNS: Final = tuple(
    "+".join(name for name, there in zip(("face", "voice", "words"), bits, strict=True) if there) or "nothing"
    for bits in np.ndindex(2, 2, 2)
)
"""What may be present together, by name: `nothing`, `words`, `voice`, ..., `face+voice+words`."""

LEAST_FRAMES: Final = 300
"""A pattern seen for less than this in fitting takes the floor of `nothing`, the widest of all."""


def pattern_of(face: bool, voice: bool, words: bool) -> str:
    """The name of what is present."""
    return PATTERNS[4 * face + 2 * voice + words]


class SpreadCalibration(BaseModel):
    """For each target the scale of the squared spread between folds, and the floor for each pattern of presence."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    scale: Mapping[Target, NotNegative]
    floor: Mapping[str, Mapping[Target, NotNegative]]

    def expected_error(self, spread: Floats, pattern: str) -> Floats:
        """The root mean squared error to expect (K,), of the spread between folds (K,) in the order of `TARGETS`."""
        scale = np.array([self.scale[t] for t in TARGETS])
        floor = self.floor.get(pattern) or self.floor["nothing"]
        error: Floats = np.sqrt(scale * np.square(spread) + np.array([floor[t] for t in TARGETS]))
        return error


def fit_spread(spreads: Floats, errors: Floats, patterns: NDArray[np.str_]) -> SpreadCalibration:
    """Fitted to N frames: spreads between folds and errors, both (N, K) in the order of `TARGETS`, and what was
    present at each (N,).

    Each frame's squared error is fitted by non-negative least squares. Raises ValueError where there are no frames.
    """
    if not len(spreads):
        raise ValueError("no frames to fit a spread to")
    counts = {p: int((patterns == p).sum()) for p in PATTERNS}
    known = [p for p in PATTERNS if counts[p] >= min(LEAST_FRAMES, len(spreads))] or [
        max(counts, key=lambda p: counts[p])
    ]
    kept = np.isin(patterns, known)
    belongs = (patterns[kept][:, None] == np.array(known)).astype(np.float64)
    scale: dict[Target, float] = {}
    floor: dict[str, dict[Target, float]] = {p: {} for p in known}
    for k, target in enumerate(TARGETS):
        design = np.hstack([np.square(spreads[kept, k])[:, None], belongs])
        found = _non_negative_least_squares(design, np.square(errors[kept, k]))
        scale[target] = float(found[0])
        for name, value in zip(known, found[1:], strict=True):
            floor[name][target] = float(value)
    if "nothing" not in floor:
        floor["nothing"] = {t: max(f[t] for f in floor.values()) for t in TARGETS}
    return SpreadCalibration(scale=scale, floor=floor)


def _non_negative_least_squares(design: Floats, wanted: Floats) -> Floats:
    """Least squares with coefficients of zero or more, the most negative one held at zero until none is left.

    Exact where the columns are as nearly orthogonal as these are.
    """
    active = np.ones(design.shape[1], bool)
    while True:
        found = np.zeros(design.shape[1])
        found[active] = np.linalg.lstsq(design[:, active], wanted, rcond=None)[0]
        if (found >= 0).all():
            return found
        active[int(found.argmin())] = False
