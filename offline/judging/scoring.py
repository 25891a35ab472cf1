"""How well a bundle's estimates of some items agree with their labels, and whether its spread tells where it errs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from models.spec import TARGETS, Target
from offline.metrics import score

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from offline.judging.live_path import ItemEstimate
    from offline.judging.material import Material
    from offline.people.emotions import Floats

Reading = Literal["centered", "folds' mean"]
READINGS: Final[tuple[Reading, Reading]] = ("centered", "folds' mean")
"""What is published, and the mean of the folds' own outputs, not centered."""

Subset = Literal["present", "all"]

GROUPS: Final = 5


@dataclass(frozen=True)
class Agreement:
    """One target's estimates against labels over `items` items: CCC and Pearson's r in [-1, 1] (r is 0 for a
    constant), mean absolute error and RMSE on the scale of valence and arousal.
    """

    items: int
    ccc: float
    pearson: float
    mae: float
    rmse: float


@dataclass(frozen=True)
class SpreadGroups:
    """Items in groups of equal size from the narrowest spread to the widest: each one's size, mean spread and RMSE.

    `ratio` is the widest group's RMSE over the narrowest's: above 1 where spread tells of error; None where the
    narrowest has no error.
    """

    items: tuple[int, ...]
    spread: tuple[float, ...]
    rmse: tuple[float, ...]
    ratio: float | None


@dataclass(frozen=True)
class Score:
    """One target of one reading against labels `against`: over the items in which a face, voice or words were found
    (`present`), or over `all` with the bundle's answer to the others too. `groups` is None where all spreads are one
    or items are fewer than groups.
    """

    reading: Reading
    subset: Subset
    against: str
    target: Target
    agreement: Agreement
    groups: SpreadGroups | None


@dataclass(frozen=True)
class CategoryMean:
    """The items of one emotion: how many, the means of what is published and of the folds' mean, and of the labels;
    (valence, arousal) each.
    """

    name: str
    items: int
    centered: tuple[float, float]
    folds_mean: tuple[float, float]
    label: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Judgement:
    """What a bundle is worth on one kind of material. `scores` is empty where there are no labels."""

    material: Material
    estimates: tuple[ItemEstimate, ...]
    scores: tuple[Score, ...]
    categories: tuple[CategoryMean, ...]

    @property
    def present(self) -> int:
        """In how many items a face, a voice or words were found."""
        return sum(estimate.present for estimate in self.estimates)

    @property
    def widest_deviation(self) -> tuple[str, Target, float]:
        """The item, target and value, of what is published, that is furthest from zero."""
        values = values_of(self.estimates, "centered")
        row, column = np.unravel_index(np.abs(values).argmax(), values.shape)
        return self.material.names[row], TARGETS[column], float(values[row, column])


def agree(estimates: ArrayLike, labels: ArrayLike) -> Agreement:
    """One target's estimates (N,) against labels (N,), N > 0. Raises ValueError for other shapes or values not
    finite.
    """
    y, g = np.asarray(estimates, np.float64), np.asarray(labels, np.float64)
    found = score(y, g)
    if found is None or found.frames != len(g):
        raise ValueError("every item needs a label")
    return Agreement(found.frames, found.ccc, found.pcc, float(np.abs(y - g).mean()), found.rmse)


def group_by_spread(spread: ArrayLike, errors: ArrayLike, groups: int = GROUPS) -> SpreadGroups | None:
    """Items' errors (N,) by their spread (N,): sizes differ by one at most, the larger groups first; equal spreads in
    the items' order. None where N < groups or all spreads are the same.
    """
    s, e = np.asarray(spread, np.float64), np.asarray(errors, np.float64)
    if len(s) < groups or np.ptp(s) == 0:
        return None
    parts = np.array_split(np.argsort(s, kind="stable"), groups)
    rmse = [float(np.sqrt((e[part] ** 2).mean())) for part in parts]
    return SpreadGroups(
        items=tuple(len(part) for part in parts),
        spread=tuple(float(s[part].mean()) for part in parts),
        rmse=tuple(rmse),
        ratio=rmse[-1] / rmse[0] if rmse[0] > 0 else None,
    )


def score_material(material: Material, estimates: Sequence[ItemEstimate]) -> Judgement:
    """Everything that labels and categories allow to be said of the estimates, one for each item."""
    present = np.array([estimate.present for estimate in estimates])
    subsets: list[tuple[Subset, np.ndarray[tuple[int], np.dtype[np.bool_]]]] = [
        ("all", np.ones_like(present))
    ]
    if present.any() and not present.all():
        subsets.insert(0, ("present", present))
    scores: list[Score] = []
    for against, labels in material.labels.items():
        for reading in READINGS:
            values, spreads = values_of(estimates, reading), spreads_of(estimates, reading)
            for subset, chosen in subsets:
                for k, target in enumerate(TARGETS):
                    rows = chosen & ~np.isnan(labels[:, k])
                    if not rows.any():
                        continue
                    y, g = values[rows, k], labels[rows, k]
                    groups = group_by_spread(spreads[rows, k], y - g)
                    scores.append(Score(reading, subset, against, target, agree(y, g), groups))
    return Judgement(material, tuple(estimates), tuple(scores), _category_means(material, estimates))


def values_of(estimates: Sequence[ItemEstimate], reading: Reading) -> Floats:
    """Valence and arousal (N, 2)."""
    return np.array([e.centered if reading == "centered" else e.folds_mean for e in estimates])


def spreads_of(estimates: Sequence[ItemEstimate], reading: Reading) -> Floats:
    """The spreads that belong to a reading, (N, 2)."""
    return np.array([e.centered_spread if reading == "centered" else e.folds_spread for e in estimates])


def _category_means(material: Material, estimates: Sequence[ItemEstimate]) -> tuple[CategoryMean, ...]:
    if not material.categories:
        return ()
    names = np.array(material.categories)
    labels = next(iter(material.labels.values()))
    series = (values_of(estimates, "centered"), values_of(estimates, "folds' mean"), labels)
    found = []
    for name in dict.fromkeys(sorted(material.categories)):
        rows = names == name
        centered, folds_mean, label = (_pair(values[rows].mean(axis=0)) for values in series)
        found.append(CategoryMean(name, int(rows.sum()), centered, folds_mean, label))
    return tuple(found)


def _pair(values: Floats) -> tuple[float, float]:
    return float(values[0]), float(values[1])
