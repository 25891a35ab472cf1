"""Material shared out: no two parts have a picture, a speaker or a comment in common."""

from __future__ import annotations

import numpy as np
import pytest

from models.visual.framing import Square
from offline.composer.material import Comment, Pictures, Sentence, choose_near, split_material


def pictures(count: int) -> Pictures:
    random = np.random.default_rng(1)
    return Pictures(
        random.integers(0, 255, (count, 48, 48)).astype(np.uint8),
        random.uniform(-1, 1, (count, 2)).astype(np.float32),
        (Square(24, 24, 44),) * count,
        np.zeros((count, 5, 2), np.float32),
        np.repeat(np.arange(count // 2), 2).astype(np.uint64),
    )


def sentences(speakers: int) -> list[Sentence]:
    return [
        Sentence(f"{k:02d}", np.zeros(1600, np.float32), np.zeros(2, np.float32))
        for k in range(speakers)
        for _ in range(3)
    ]


COMMENTS = [Comment(("word", str(k % 40)), np.zeros(2, np.float32)) for k in range(80)]


def test_nothing_is_in_two_parts_and_nothing_is_lost() -> None:
    parts = split_material(pictures(200), sentences(8), COMMENTS, 6)
    hashes = [set(part.pictures.hashes.tolist()) for part in parts]
    speakers = [{s.speaker for s in part.sentences} for part in parts]
    comments = [{c.words for c in part.comments} for part in parts]
    for kind in (hashes, speakers, comments):
        assert sum(map(len, kind)) == len(set.union(*kind))
    assert sum(len(part.pictures) for part in parts) == 200
    assert sum(len(part.sentences) for part in parts) == 24
    assert sum(len(part.comments) for part in parts) == 80


def test_fewer_speakers_than_parts_are_refused() -> None:
    with pytest.raises(ValueError, match="3 speakers cannot be shared out over 6 parts"):
        split_material(pictures(60), sentences(3), COMMENTS, 6)


def test_what_is_near_is_chosen_and_else_the_nearest() -> None:
    random = np.random.default_rng(2)
    feelings = np.array([[0, 0], [0.5, 0.5], [0.52, 0.5], [-0.9, 0.9]], np.float32)
    assert {choose_near(feelings, np.array([0.5, 0.5], np.float32), random) for _ in range(50)} == {1, 2}
    assert choose_near(feelings, np.array([-0.5, 0.6], np.float32), random) == 3
