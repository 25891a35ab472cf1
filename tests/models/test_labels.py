"""Label files: read the same way by training, by the live view and by whoever checks a performed corpus."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import UserError
from models.labels import parse_labels, read_labels

if TYPE_CHECKING:
    from pathlib import Path


def test_the_samples_rows_are_read(fixtures: Path) -> None:
    sample = fixtures / "affwild2" / "synthetic_sample"
    labels = read_labels(sample / "Train_Set" / "1-30-1280x720.txt")
    assert labels.shape == (300, 2)
    assert labels[1].tolist() == [0.017, 0.3]
    assert not np.isnan(labels).any()


def test_rows_of_minus_five_stay_in_their_place_as_nan(fixtures: Path) -> None:
    path = fixtures / "affwild2" / "synthetic_sample" / "Validation_Set" / "video59_right.txt"
    rows = path.read_text().splitlines()[1:]
    labels = read_labels(path)
    assert len(labels) == len(rows) == 200
    assert np.isnan(labels[:, 0]).tolist() == [row == "-5,-5" for row in rows]
    assert 0 < np.isnan(labels[:, 1]).sum() < 200


@given(st.lists(st.none() | st.tuples(st.floats(-1, 1), st.floats(-1, 1)), min_size=1, max_size=20))
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[float, float] | None]
) -> None:
    path = tmp_path_factory.mktemp("labels") / "x.txt"
    lines = ["-5,-5" if row is None else f"{row[0]!r},{row[1]!r}" for row in rows]
    path.write_text("valence,arousal\n" + "\n".join(lines) + "\n")
    expected = np.array([(np.nan, np.nan) if row is None else row for row in rows])
    assert np.array_equal(read_labels(path), expected, equal_nan=True)


def test_other_systems_line_ends_and_marks(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(b"\xef\xbb\xbfvalence,arousal\r\n0.5,-0.5\r\n-5,-5\r\n\r\n")
    assert read_labels(path)[0].tolist() == [0.5, -0.5]
    assert len(read_labels(path)) == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "first line must be 'valence,arousal'"),
        ("0.1,0.2\n", "first line must be"),
        ("valence,arousal\n", "has no rows"),
        ("valence,arousal\n0.1,0.2\n0.1\n", "line 3 is no pair of numbers: '0.1'"),
        ("valence,arousal\n0.1,0.2,0.3\n", "line 2 is no pair"),
        ("valence,arousal\nx,0.3\n", "line 2 is no pair"),
        ("valence,arousal\n1.01,0.3\n", r"line 2 is outside \[-1, 1\]"),
        ("valence,arousal\nnan,0.3\n", r"line 2 is outside \[-1, 1\]"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "x.txt"
    path.write_text(content)
    with pytest.raises(UserError, match=said):
        read_labels(path)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read"):
        read_labels(tmp_path / "x.txt")


@pytest.mark.parametrize("row", ["-5,-5", "-5,0.5", "0.5,-5", "-5.0, 0.5"])
def test_a_row_with_either_value_at_minus_five_is_not_annotated(row: str) -> None:
    labels = parse_labels(f"valence,arousal\n0.25,-0.5\n{row}\n", "labels.txt")
    assert labels[0].tolist() == [0.25, -0.5]
    assert np.isnan(labels[1]).all()
