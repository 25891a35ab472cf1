"""CCC, and the CCC-centering that merges the folds: of a whole series, and running over a window.

Source: the gold-standard recipe of AVEC 2016 (Valstar et al. 2016), which the report (section 3.5) applies to
the fold models' predictions. All arithmetic is float64.

Definition. The concordance correlation coefficient (Lin 1989) of x and y is

    2 cov(x, y) / (var(x) + var(y) + (mean(x) - mean(y))^2)

where covariance and variances divide by N. `mixed=True` gives the recipe's code instead, whose covariance
divides by N and whose variances divide by N - 1 (by N where N is 1).

Defined answers where the formula has none or is meaningless:

- two constant series: 1 where they are equal, else 0; one constant series: 0;
- one fold: its series unchanged, agreement 1, weight 1;
- a mean agreement below `LEAST_AGREEMENT` (zero, near it, or negative): every fold weighs the same;
- NaN, infinities and magnitudes of 1e100 and more: refused with ValueError.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.spec import WindowSpec

Floats = NDArray[np.float64]

LEAST_AGREEMENT: Final = 0.01
"""Mean agreement below which folds cannot be told apart by agreement, and weigh the same.

Dividing by a total near zero would throw the offset far outside the folds' means."""

_LARGEST: Final = 1e100


@dataclass(frozen=True)
class Centered:
    """A whole series, centered.

    `merged` (N,) is the mean of `folds` (F, N), the centred series; `weights` (F,) sum to 1 and gave the
    common offset; `agreements` (F,) is each fold's mean CCC with the others. Nothing is clipped.
    """

    merged: Floats
    folds: Floats
    weights: Floats
    agreements: Floats


def ccc(x: ArrayLike, y: ArrayLike, *, mixed: bool = False) -> float:
    """Concordance correlation coefficient of two series (N,), in [-1, 1]; see the module for its definition.

    Raises ValueError for series that are empty, of different lengths or not finite.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"CCC needs two series of one length, not shapes {x.shape} and {y.shape}")
    return float(ccc_matrix(np.stack([x, y]), mixed=mixed)[0, 1])


def ccc_matrix(series: ArrayLike, *, mixed: bool = False) -> Floats:
    """Pairwise CCC (F, F) of series (F, N). Raises ValueError as `ccc` does."""
    return _moments(_checked_series(series)).concordance(mixed)


def center(series: ArrayLike, *, mixed: bool = False) -> Centered:
    """CCC-center the folds' series (F, N) of one target.

    Each series is moved so that its mean is the agreement-weighted mean of all means; the merged series is
    the plain mean of the moved ones. Raises ValueError for an empty series and for values not finite.
    """
    x = _checked_series(series)
    moments = _moments(x)
    agreements = _agreements(moments.concordance(mixed))
    weights = _weights(agreements)
    folds = x + (_offset(weights, moments.mean) - moments.mean)[:, None] if len(x) > 1 else x.copy()
    return Centered(merged=folds.mean(axis=0), folds=folds, weights=weights, agreements=agreements)


@dataclass(frozen=True)
class CenteredFrame:
    """The newest sample, centered over the window: arrays with the target axis, if any, in front.

    `value` (K,) or () is the merged value, `spread` the population standard deviation between the centred
    folds, `weights` (K, F) or (F,) sum to 1. Nothing is clipped.
    """

    value: Floats
    spread: Floats
    weights: Floats


@dataclass(frozen=True, eq=False)
class RunningState:
    """What running centering remembers: immutable, so any state is a snapshot that can be resumed.

    The window is covered by two blocks: the tail of a finished one, whose moments are known for every length
    of tail, and the one being filled. Nothing is ever subtracted, so errors cannot add up.
    """

    finished: _Tails | None
    filling: _Moments | None
    rows: tuple[Floats, ...]


def state_of_first(state: RunningState, folds: int) -> RunningState:
    """The state, to the last bit, of a centering over the first `folds` folds that took in the same samples."""
    return RunningState(
        finished=None if state.finished is None else state.finished.of_first(folds),
        filling=None if state.filling is None else state.filling.of_first(folds),
        rows=tuple(row[..., :folds] for row in state.rows),
    )


class RunningCentering:
    """Centering of the newest sample over the last `window` samples, O(folds^2) a frame, amortised.

    Pure: `step(state, x) -> (state, frame)`; the value is the last column of `center` over the same samples.
    With `targets=K` a sample is (K, F) and targets are centered side by side; with None it is (F,).
    """

    def __init__(
        self,
        folds: int,
        window: int = WindowSpec().length,
        targets: int | None = None,
        *,
        mixed: bool = False,
    ) -> None:
        """Raises ValueError unless folds, window and targets are positive."""
        if folds < 1 or window < 1 or (targets is not None and targets < 1):
            raise ValueError(
                f"centering needs positive sizes: {folds} folds, window {window}, targets {targets}"
            )
        self.folds = folds
        self.window = window
        self.targets = targets
        self.mixed = mixed
        self._shape = (folds,) if targets is None else (targets, folds)

    def initial_state(self) -> RunningState:
        """A window with nothing in it."""
        return RunningState(finished=None, filling=None, rows=())

    def step(self, state: RunningState, x: ArrayLike) -> tuple[RunningState, CenteredFrame]:
        """Take one sample (F,) or (K, F) in. Raises ValueError for another shape or values not finite."""
        state = self.absorb(state, x)
        return state, self._center_newest(state, state.rows[-1])

    def absorb(self, state: RunningState, x: ArrayLike) -> RunningState:
        """A `step` without its frame: only the state, for a third of the work."""
        sample = np.array(x, np.float64)
        if sample.shape != self._shape:
            raise ValueError(f"running centering was made for samples {self._shape}, not {sample.shape}")
        _refuse_unusable(sample)
        sample.setflags(write=False)
        if len(state.rows) == self.window:
            state = RunningState(finished=_tails(np.stack(state.rows)), filling=None, rows=())
        return RunningState(
            finished=state.finished,
            filling=_Moments.of_one(sample) if state.filling is None else state.filling.with_one(sample),
            rows=(*state.rows, sample),
        )

    def _center_newest(self, state: RunningState, sample: Floats) -> CenteredFrame:
        moments = state.filling
        assert moments is not None
        if state.finished is not None and len(state.rows) < self.window:
            moments = state.finished.last(self.window - len(state.rows)).merged_with(moments)
        weights = _weights(_agreements(moments.concordance(self.mixed)))
        if self.folds == 1:
            return CenteredFrame(value=sample[..., 0], spread=np.zeros(self._shape[:-1]), weights=weights)
        mean = moments.mean
        centred = sample + (_offset(weights, mean)[..., None] - mean)
        return CenteredFrame(value=centred.mean(axis=-1), spread=centred.std(axis=-1), weights=weights)


@dataclass(frozen=True, eq=False)
class _Moments:
    """Count, means and scatter (sums of products of deviations) of some samples (..., F).

    Means are held relative to `origin`, one of the samples: series far from zero keep their digits, and a
    constant series has a scatter of exactly zero.
    """

    count: int
    origin: Floats
    shifted_mean: Floats
    scatter: Floats

    @classmethod
    def of_one(cls, sample: Floats) -> _Moments:
        return cls(1, sample, np.zeros(sample.shape), np.zeros((*sample.shape, sample.shape[-1])))

    @property
    def mean(self) -> Floats:
        return self.origin + self.shifted_mean

    def of_first(self, folds: int) -> _Moments:
        """Of the first `folds` folds alone."""
        return _Moments(
            self.count,
            self.origin[..., :folds],
            self.shifted_mean[..., :folds],
            self.scatter[..., :folds, :folds],
        )

    def with_one(self, sample: Floats) -> _Moments:
        """With one sample more (Welford 1962)."""
        delta = (sample - self.origin) - self.shifted_mean
        count = self.count + 1
        return _Moments(
            count,
            self.origin,
            self.shifted_mean + delta / count,
            self.scatter + _outer(delta) * (self.count / count),
        )

    def merged_with(self, other: _Moments) -> _Moments:
        """Both together (Chan, Golub and LeVeque 1983), relative to the other's origin."""
        count = self.count + other.count
        delta = (self.origin - other.origin) + (self.shifted_mean - other.shifted_mean)
        return _Moments(
            count,
            other.origin,
            other.shifted_mean + delta * (self.count / count),
            self.scatter + other.scatter + _outer(delta) * (self.count * other.count / count),
        )

    def concordance(self, mixed: bool) -> Floats:
        """Pairwise CCC (..., F, F)."""
        covariance = self.scatter / self.count
        variance = np.diagonal(self.scatter, axis1=-2, axis2=-1) / (
            self.count - 1 if mixed and self.count > 1 else self.count
        )
        mean = self.mean
        apart = (variance[..., :, None] + variance[..., None, :]) + (
            mean[..., :, None] - mean[..., None, :]
        ) ** 2
        same = apart == 0
        found: Floats = np.where(same, 1.0, 2 * covariance / np.where(same, 1.0, apart))
        return found


@dataclass(frozen=True, eq=False)
class _Tails:
    """The moments of every tail of a finished block: row n - 1 of each array is about the last n samples."""

    origin: Floats
    shifted_mean: Floats
    scatter: Floats

    def of_first(self, folds: int) -> _Tails:
        return _Tails(
            self.origin[..., :folds], self.shifted_mean[..., :folds], self.scatter[..., :folds, :folds]
        )

    def last(self, count: int) -> _Moments:
        return _Moments(count, self.origin, self.shifted_mean[count - 1], self.scatter[count - 1])


def _tails(block: Floats) -> _Tails:
    """Tails of a block (N, ..., F): Welford's recurrence from its last sample backwards, all rows at once."""
    shifted = (block - block[-1])[::-1]
    counts = np.arange(1, len(block) + 1, dtype=np.float64).reshape(-1, *(1,) * (block.ndim - 1))
    mean = np.cumsum(shifted, axis=0) / counts
    delta = shifted - np.concatenate([np.zeros_like(mean[:1]), mean[:-1]])
    scatter = np.cumsum(_outer(delta) * ((counts - 1) / counts)[..., None], axis=0)
    return _Tails(block[-1], mean, scatter)


def _moments(series: Floats) -> _Moments:
    """Moments of a whole series (F, N), in two passes."""
    origin = series[:, -1]
    shifted = series - origin[:, None]
    mean = shifted.mean(axis=1)
    deviations = shifted - mean[:, None]
    return _Moments(series.shape[1], origin, mean, deviations @ deviations.T)


def _agreements(concordance: Floats) -> Floats:
    """Each fold's mean CCC with the other folds (..., F)."""
    folds = concordance.shape[-1]
    if folds == 1:
        return np.ones(concordance.shape[:-1])
    own = np.diagonal(concordance, axis1=-2, axis2=-1)
    found: Floats = (concordance.sum(axis=-1) - own) / (folds - 1)
    return found


def _weights(agreements: Floats) -> Floats:
    """Weights (..., F) that sum to 1: the agreements, or equal ones where those are too small together."""
    folds = agreements.shape[-1]
    total = agreements.sum(axis=-1, keepdims=True)
    usable = total >= LEAST_AGREEMENT * folds
    found: Floats = np.where(usable, agreements / np.where(usable, total, 1.0), 1.0 / folds)
    return found


def _offset(weights: Floats, mean: Floats) -> Floats:
    """The weighted mean of the folds' means (...), taken about their plain mean to keep its digits."""
    middle = mean.mean(axis=-1)
    found: Floats = middle + (weights * (mean - middle[..., None])).sum(axis=-1)
    return found


def _outer(delta: Floats) -> Floats:
    return delta[..., :, None] * delta[..., None, :]


def _checked_series(series: ArrayLike) -> Floats:
    x = np.asarray(series, np.float64)
    if x.ndim != 2 or not x.size:
        raise ValueError(f"centering needs series (folds, samples), not shape {x.shape}")
    _refuse_unusable(x)
    return x


def _refuse_unusable(x: Floats) -> None:
    if not (np.abs(x) < _LARGEST).all():
        raise ValueError("centering refuses values that are not finite (NaN or infinite) or beyond 1e100")
