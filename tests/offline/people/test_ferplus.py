"""FER+ pictures and votes as they are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from models.errors import UserError
from offline.people.ferplus import EXPRESSIONS, difference_hashes, read_pictures

if TYPE_CHECKING:
    from pathlib import Path


def write(path: Path, votes: list[list[int]], **other: Any) -> Path:
    images = np.random.default_rng(3).integers(0, 255, (len(votes), 48, 48), np.uint8)
    np.savez(path, **{"images": images, "votes": np.array(votes, np.uint8), **other})
    return path


NEUTRAL = [10, 0, 0, 0, 0, 0, 0, 0, 0, 0]
MIXED = [2, 6, 0, 0, 0, 0, 0, 0, 2, 0]
UNCLEAR = [5, 0, 0, 0, 0, 0, 0, 0, 5, 0]


def test_votes_become_shares_of_expressions(tmp_path: Path) -> None:
    pictures = read_pictures(
        write(tmp_path / "a.npz", [NEUTRAL, UNCLEAR, MIXED], numbers=np.array([7, 8, 9]))
    )
    assert list(pictures.numbers) == [7, 9], "half the votes for no expression are not enough"
    assert np.allclose(pictures.shares.sum(axis=1), 1)
    assert np.allclose(pictures.shares[1, :2], [0.25, 0.75])
    assert [EXPRESSIONS[i] for i in pictures.majority] == ["neutral", "happiness"]
    assert np.allclose(pictures.valence_arousal, [[0.0, 0.0], [0.6, 0.3375]])
    assert len(pictures.take(np.array([True, False]))) == 1


def test_numbers_count_where_there_are_none(tmp_path: Path) -> None:
    assert list(read_pictures(write(tmp_path / "a.npz", [UNCLEAR, NEUTRAL])).numbers) == [1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"images": np.zeros((2, 40, 40), np.uint8), "votes": np.ones((2, 10))},
            r"'images' must be uint8 \(N, 48",
        ),
        ({"images": np.zeros((2, 48, 48)), "votes": np.ones((2, 10))}, "'images' must be uint8"),
        ({"images": np.zeros((2, 48, 48), np.uint8), "votes": np.ones((2, 8))}, r"'votes' must be \(N, 10\)"),
        ({"images": np.zeros((1, 48, 48), np.uint8), "votes": -np.ones((1, 10))}, "counts of zero or more"),
        ({"images": np.zeros((1, 48, 48), np.uint8), "votes": np.full((1, 10), np.nan)}, "counts of zero"),
        ({"images": np.zeros((1, 48, 48), np.uint8)}, "it has no 'votes'"),
        ({"images": np.zeros((1, 48, 48), np.uint8), "votes": np.array([[object()] * 10])}, "damaged"),
        (
            {
                "images": np.zeros((1, 48, 48), np.uint8),
                "votes": np.ones((1, 10)),
                "numbers": np.ones(2, int),
            },
            "'numbers' must be whole numbers",
        ),
        (
            {"images": np.zeros((1, 48, 48), np.uint8), "votes": np.eye(10)[9:]},
            "no picture of which most votes",
        ),
        (
            {"images": np.zeros((0, 48, 48), np.uint8), "votes": np.ones((0, 10))},
            "no picture of which most votes",
        ),
    ],
)
def test_another_form_is_refused(tmp_path: Path, content: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "a.npz", **content)
    with pytest.raises(UserError, match=message) as raised:
        read_pictures(tmp_path / "a.npz")
    assert str(tmp_path / "a.npz") in str(raised.value)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_pictures(tmp_path / "a.npz")
    for content in (b"", b"nothing of the kind", b"PK\x03\x04 cut short"):
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(UserError, match=r"is not an \.npz"):
            read_pictures(tmp_path / "a.npz")
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(UserError, match="holds one array alone"):
        read_pictures(tmp_path / "a.npy")
    with pytest.raises(UserError, match=r"is not an \.npz"):
        read_pictures(tmp_path)


def test_hashes_know_a_picture_again_that_is_brighter() -> None:
    random = np.random.default_rng(1)
    images = random.integers(0, 200, (3, 48, 48), np.uint8)
    images[2] = images[0] + 20
    hashes = difference_hashes(images)
    assert hashes.dtype == np.uint64
    assert hashes[0] == hashes[2] != hashes[1]
    assert difference_hashes(images[:0]).shape == (0,)
    rising = np.tile(np.arange(48, dtype=np.uint8), (48, 1))
    assert difference_hashes(np.stack([rising, rising[:, ::-1]])).tolist() == [0, 2**64 - 1]


def test_the_real_pictures(people: Path) -> None:
    pictures = read_pictures(people / "ferplus-validation.npz")
    assert len(pictures) == 3569
    assert np.abs(pictures.valence_arousal).max() <= 1
    assert np.bincount(pictures.majority).tolist() == [1340, 899, 458, 416, 320, 36, 75, 25]
