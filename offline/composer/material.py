"""The parts that trials are composed of: labelled pictures, sentences and comments, shared out so that no two folds
have one in common. Pure.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from models.visual.framing import Square


@dataclass(frozen=True, eq=False)
class Pictures:
    """N faces: `images` (N, h, w) uint8 grey, `feelings` (N, 2) as people voted, where the live path frames each
    (`squares`) and where its landmarks are (N, 5, 2), in its pixels. Near-duplicates share a hash.
    """

    images: NDArray[np.uint8]
    feelings: NDArray[np.float32]
    squares: tuple[Square, ...]
    landmarks: NDArray[np.float32]
    hashes: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: NDArray[np.intp]) -> Pictures:
        """Some of them."""
        return Pictures(
            self.images[rows],
            self.feelings[rows],
            tuple(self.squares[i] for i in rows),
            self.landmarks[rows],
            self.hashes[rows],
        )


@dataclass(frozen=True, eq=False)
class Sentence:
    """A sentence said in a mood: float32 samples (n,) at 16 kHz in [-1, 1], `feeling` (2,)."""

    speaker: str
    samples: NDArray[np.float32]
    feeling: NDArray[np.float32]

    @property
    def neutral(self) -> bool:
        """Whether it was said in no mood."""
        return not self.feeling.any()


@dataclass(frozen=True, eq=False)
class Comment:
    """A comment's bare lower-case words, as a recogniser gives them, and its `feeling` (2,)."""

    words: tuple[str, ...]
    feeling: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Material:
    """What the trials of one part are composed of. Raises ValueError where a kind is missing."""

    pictures: Pictures
    sentences: tuple[Sentence, ...]
    comments: tuple[Comment, ...]

    def __post_init__(self) -> None:
        for name in ("pictures", "sentences", "comments"):
            if not len(getattr(self, name)):
                raise ValueError(f"there are no {name} to compose of")


def split_material(
    pictures: Pictures, sentences: Sequence[Sentence], comments: Sequence[Comment], parts: int
) -> list[Material]:
    """The material in `parts` parts: near-duplicate pictures, a speaker's sentences and equal comments stay together.

    The shares do not depend on the order of what is given. Raises ValueError where there are fewer speakers than
    parts.
    """
    speakers = sorted({s.speaker for s in sentences})
    if len(speakers) < parts:
        raise ValueError(f"{len(speakers)} speakers cannot be shared out over {parts} parts")
    part_of = {speaker: k % parts for k, speaker in enumerate(speakers)}
    of_picture = np.array([_part(int(value).to_bytes(8, "big"), parts) for value in pictures.hashes])
    of_comment = [_part(" ".join(comment.words).encode(), parts) for comment in comments]
    return [
        Material(
            pictures.take(np.flatnonzero(of_picture == k)),
            tuple(s for s in sentences if part_of[s.speaker] == k),
            tuple(c for c, part in zip(comments, of_comment, strict=True) if part == k),
        )
        for k in range(parts)
    ]


def choose_near(
    feelings: NDArray[np.float32],
    wanted: NDArray[np.float32],
    random: np.random.Generator,
    near: float = 0.12,
) -> int:
    """One of `feelings` (n, 2) that lies near `wanted`: any of those within `near`, else the nearest of them."""
    distances = np.hypot(*(feelings - wanted).T)
    close = np.flatnonzero(distances <= near)
    if len(close):
        return int(random.choice(close))
    nearest = np.argsort(distances, kind="stable")[: max(1, len(distances) // 100)]
    return int(random.choice(nearest))


def _part(content: bytes, parts: int) -> int:
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big") % parts
