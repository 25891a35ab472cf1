"""Scores of a judgement, held to plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline.judging.live_path import ItemEstimate
from offline.judging.material import Material, spread_sample
from offline.judging.scoring import agree, group_by_spread, score_material

SERIES = st.integers(2, 40).flatmap(
    lambda n: st.tuples(*(st.lists(st.floats(-1, 1, width=32), min_size=n, max_size=n) for _ in range(2)))
)


@given(SERIES)
def test_agreement_is_numpys(series: tuple[list[float], list[float]]) -> None:
    y, g = np.array(series[0]), np.array(series[1])
    found = agree(y, g)
    assert found.items == len(y)
    assert found.mae == pytest.approx(np.abs(y - g).mean())
    assert found.rmse == pytest.approx(np.sqrt(((y - g) ** 2).mean()))
    if y.std() > 1e-3 and g.std() > 1e-3:
        assert found.pearson == pytest.approx(np.corrcoef(y, g)[0, 1], abs=1e-6)
        ccc = 2 * ((y - y.mean()) * (g - g.mean())).mean() / (y.var() + g.var() + (y.mean() - g.mean()) ** 2)
        assert found.ccc == pytest.approx(ccc, abs=1e-6)


@given(SERIES)
def test_groups_by_spread_are_numpys(series: tuple[list[float], list[float]]) -> None:
    spread, errors = np.abs(series[0]), np.array(series[1])
    found = group_by_spread(spread, errors)
    if len(spread) < 5 or np.ptp(spread) == 0:
        assert found is None
        return
    assert found is not None
    assert sum(found.items) == len(spread)
    assert max(found.items) - min(found.items) <= 1
    assert list(found.spread) == sorted(found.spread)
    order = sorted(range(len(spread)), key=lambda i: (spread[i], i))
    begin = 0
    for size, mean, rmse in zip(found.items, found.spread, found.rmse, strict=True):
        rows = order[begin : begin + size]
        begin += size
        assert mean == pytest.approx(spread[rows].mean())
        assert rmse == pytest.approx(np.sqrt((errors[rows] ** 2).mean()))
    if found.rmse[0] > 0:
        assert found.ratio == pytest.approx(found.rmse[-1] / found.rmse[0])
    else:
        assert found.ratio is None


def estimate(valence: float, arousal: float, *, present: bool = True) -> ItemEstimate:
    value = np.array([valence, arousal])
    return ItemEstimate(30, present, value, np.abs(value), value / 2, np.abs(value) / 4)


def material(labels: np.ndarray, categories: tuple[str, ...] = ()) -> Material:
    names = tuple(f"n{i}" for i in range(len(labels)))
    return Material("faces", "made", names, names, {"votes": labels}, len(labels), categories)


def test_what_lacks_a_face_counts_apart() -> None:
    labels = np.array([[0.5, 0.0], [-0.5, 0.2], [0.9, 0.9]])
    estimates = [estimate(0.5, 0.0), estimate(-0.5, 0.2), estimate(0.0, 0.0, present=False)]
    judgement = score_material(material(labels, ("joy", "fear", "joy")), estimates)
    assert judgement.present == 2
    scores = {(s.reading, s.subset, s.target): s.agreement for s in judgement.scores}
    assert len(scores) == 8
    assert scores["centered", "present", "valence"].ccc == pytest.approx(1)
    assert scores["centered", "present", "valence"].items == 2
    assert scores["centered", "all", "valence"].items == 3
    assert scores["folds' mean", "present", "arousal"].mae == pytest.approx(0.05)
    fear, joy = judgement.categories
    assert (fear.name, fear.items, joy.items) == ("fear", 1, 2)
    assert joy.label == pytest.approx((0.7, 0.45))
    assert joy.centered == pytest.approx((0.25, 0.0))


def test_one_set_of_items_is_scored_once_and_missing_labels_are_left_out() -> None:
    labels = np.array([[0.5, 0.0], [np.nan, np.nan], [0.1, 0.1]])
    judgement = score_material(material(labels), [estimate(0.4, 0.1)] * 3)
    assert [(s.subset, s.agreement.items) for s in judgement.scores] == [("all", 2)] * 4
    assert judgement.categories == ()


def test_the_widest_deviation_is_named() -> None:
    estimates = [estimate(0.2, -0.1), estimate(0.1, -0.6)]
    assert score_material(material(np.zeros((2, 2))), estimates).widest_deviation == ("n1", "arousal", -0.6)


def test_a_sample_is_spread_evenly() -> None:
    assert spread_sample(10, 3).tolist() == [0, 3, 6]
    assert spread_sample(3, 10).tolist() == [0, 1, 2]
    assert spread_sample(3, None).tolist() == [0, 1, 2]
    assert len(set(spread_sample(1000, 999).tolist())) == 999
