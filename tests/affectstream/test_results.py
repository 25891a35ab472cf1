"""A result's arrays, its table and its picture say the same."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
import pytest

from affectstream.results import Result
from models.errors import UserError
from stream.messages import Affect, Estimate, Present, TranscriptWord
from tests.stream.brokers import status

if TYPE_CHECKING:
    from matplotlib.axes import Axes

N = 5


@pytest.fixture
def result() -> Result:
    """Five frames of two folds."""
    estimates = tuple(
        Estimate(
            frame=n,
            time_s=n / 30,
            captured_at=0.0,
            value=Affect(n / 10, -n / 10),
            spread=Affect(0.1, 0.2),
            folds=(Affect(n / 10, 0.0), Affect(n / 20, 1.5)),
            present=Present(face=n > 0, voice=n > 1, words=n > 2),
            settled=True,
            words="hello" if n > 2 else "",
        )
        for n in range(N)
    )
    return Result("talk.mp4", estimates, (TranscriptWord("hello", 0.1, 0.2, 0.9),), status())


def test_its_arrays_are_those_of_its_estimates(result: Result) -> None:
    assert len(result) == N
    assert result.times.tolist() == [n / 30 for n in range(N)]
    assert result.values.shape == result.spread.shape == (N, 2)
    assert result.folds.shape == (2, N, 2)
    assert result.folds[1, :, 1].tolist() == [1.5] * N
    assert result.valence.tolist() == [n / 10 for n in range(N)]
    assert result.arousal.tolist() == [-n / 10 for n in range(N)]
    assert (result.face.sum(), result.voice.sum(), result.speaking.sum()) == (4, 3, 2)
    assert result.text == "hello"
    assert repr(result) == "<Result talk.mp4: 5 frames, 0.1 s, 1 words>"


def test_its_table_has_a_row_for_each_frame(result: Result) -> None:
    pytest.importorskip("pandas")
    table = result.to_pandas()
    assert table.index.name == "time_s"
    assert list(table.columns[:5]) == ["frame", "valence", "arousal", "valence_spread", "arousal_spread"]
    assert np.array_equal(table[["valence", "arousal"]], result.values)
    assert np.array_equal(table[["fold1_valence", "fold1_arousal"]], result.folds[1])
    assert list(table["word"]) == ["", "", "", "hello", "hello"]


def test_its_picture_shows_values_and_what_was_there(result: Result) -> None:
    matplotlib.use("agg")
    axes: list[Axes] = list(result.plot())
    assert [axis.get_ylabel() for axis in axes[:2]] == ["valence", "arousal"]
    assert axes[0].lines[0].get_ydata().tolist() == result.valence.tolist()  # type: ignore[union-attr]
    assert result.plot(axes)[0] is axes[0]
    axes[0].figure.canvas.draw()


@pytest.mark.parametrize("package", ["pandas", "matplotlib"])
def test_without_the_packages_it_says_which_extra_has_them(
    result: Result, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"needs {package}: pip install 'affectstream\[analysis\]'"):
        result.to_pandas() if package == "pandas" else result.plot()
