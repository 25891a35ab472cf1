"""EmoBank's ratings as they are read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from models.errors import UserError
from offline.people.emobank import read_ratings

if TYPE_CHECKING:
    from pathlib import Path

HEADER = "id,split,V,A,D,text\n"


def test_ratings_come_on_our_scale(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(HEADER + 'a,dev,1,5,3,"One, two"\nb,dev,3.5,3,3,Three\n')
    ratings = read_ratings(tmp_path / "a.csv")
    assert ratings.texts == ("One, two", "Three")
    assert ratings.ratings.tolist() == [[1, 5], [3.5, 3]]
    assert np.allclose(ratings.valence_arousal, [[-1.0, 1.0], [0.25, 0.0]])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no column 'V'"),
        ("V,A\n1,2\n", "has no column 'text'"),
        (HEADER, "holds no sentence"),
        (HEADER + "a,dev,0.5,3,3,x\n", "line 2: a rating must be from 1 to 5, not '0.5'"),
        (HEADER + "a,dev,3,3,3,x\nb,dev,3,high,3,y\n", "line 3: a rating must be from 1 to 5, not 'high'"),
        (HEADER + "a,dev,3\n", "line 2: a rating"),
        (HEADER + "a,dev,nan,3,3,x\n", "not 'nan'"),
    ],
)
def test_another_form_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(UserError, match=message):
        read_ratings(tmp_path / "a.csv")


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_ratings(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00V")
    with pytest.raises(UserError, match="cannot be read as CSV"):
        read_ratings(tmp_path / "a.csv")


def test_the_real_ratings(people: Path) -> None:
    ratings = read_ratings(people / "emobank-dev.csv")
    assert len(ratings) == 1000
    assert np.abs(ratings.valence_arousal).max() < 1
