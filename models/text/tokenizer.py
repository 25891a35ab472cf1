"""Words to sub-word pieces, cut into the passes that a text model takes, and back to words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from models.errors import UserError
from models.speech.words import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Segment:
    """As many words in a row as fit into one pass of the model.

    `ids`: the pieces with the model's special tokens around them; `word_of`: per piece the word's index in
    the whole text, None for special tokens.
    """

    ids: tuple[int, ...]
    word_of: tuple[int | None, ...]


@dataclass(frozen=True)
class Pieces:
    """A tokenizer as this package uses it.

    `encode` takes whole words and gives each piece's id and its word's index, None for special tokens. `unknown` and
    `unknown_id` stand for what the tokenizer does not know, `pad_id` fills up, `count` is how many pieces there are,
    `limit` how many fit into one pass.
    """

    encode: Callable[[Sequence[str]], tuple[Sequence[int], Sequence[int | None]]]
    unknown: str | None
    unknown_id: int | None
    pad_id: int
    count: int
    limit: int


class PieceTokenizer:
    """Words to the passes that a text model takes.

    The recogniser's unknown word becomes the tokenizer's unknown token; so does a word that yields no piece
    at all: every word has at least one.
    """

    def __init__(self, pieces: Pieces, vocabulary: int, folder: Path) -> None:
        """`vocabulary` is how many pieces the model knows. Raises UserError where the two do not belong together."""
        self._pieces = pieces
        self.pad_id = pieces.pad_id
        # The special tokens around a text, found by tokenising one.
        probe = self._encode(["a"])
        body = [i for i, word in enumerate(probe.word_of) if word is not None]
        if not body:
            raise UserError(
                f"the tokenizer in '{folder}' makes nothing of the letter a: it is not a text model's; "
                "give one that is"
            )
        self._prefix, self._suffix = probe.ids[: body[0]], probe.ids[body[-1] + 1 :]
        self.capacity = pieces.limit - len(self._prefix) - len(self._suffix)
        if self.capacity < 1:
            raise UserError(
                f"the text model in '{folder}' takes only {pieces.limit} positions: too few for a word; give a "
                "larger one"
            )
        if pieces.count > vocabulary:
            raise UserError(
                f"the tokenizer in '{folder}' has {pieces.count} pieces but its model {vocabulary}: "
                "they do not belong together; save both from one model"
            )

    def segments(self, words: Sequence[str]) -> list[Segment]:
        """The text cut into passes, filled from the start with whole words.

        A longer text begins with the same full segments. A single word beyond the limit loses its last
        pieces.
        """
        texts = [self._replace_unknown(word) for word in words]
        encoded = self._encode(texts)
        pieces: list[list[int]] = [[] for _ in words]
        for piece, word in zip(encoded.ids, encoded.word_of, strict=True):
            if word is not None:
                pieces[word].append(piece)
        result: list[Segment] = []
        ids: list[int] = []
        owners: list[int | None] = []
        for index, found in enumerate(pieces):
            own = (found or [self._unknown_piece])[: self.capacity]
            if len(ids) + len(own) > self.capacity:
                result.append(self._with_special_tokens(ids, owners))
                ids, owners = [], []
            ids += own
            owners += [index] * len(own)
        if ids:
            result.append(self._with_special_tokens(ids, owners))
        return result

    @property
    def _unknown_piece(self) -> int:
        unknown = self._pieces.unknown_id
        return self.pad_id if unknown is None else unknown

    def _replace_unknown(self, word: str) -> str:
        return word.replace(UNKNOWN, self._pieces.unknown) if self._pieces.unknown else word

    def _with_special_tokens(self, ids: list[int], owners: list[int | None]) -> Segment:
        return Segment(
            (*self._prefix, *ids, *self._suffix),
            (*[None] * len(self._prefix), *owners, *[None] * len(self._suffix)),
        )

    def _encode(self, texts: Sequence[str]) -> Segment:
        if not texts:
            return Segment((), ())
        ids, word_of = self._pieces.encode(texts)
        return Segment(tuple(ids), tuple(word_of))


def pad(segments: Sequence[Segment], pad_id: int) -> tuple[Tensor, Tensor]:
    """Ids and attention mask, (segments, longest) int64 each."""
    longest = max(len(s.ids) for s in segments)
    ids = torch.full((len(segments), longest), pad_id, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, segment in enumerate(segments):
        ids[row, : len(segment.ids)] = torch.tensor(segment.ids)
        mask[row, : len(segment.ids)] = 1
    return ids, mask


def pool_words(values: Tensor, segment: Segment, into: Tensor) -> None:
    """The mean of each word's pieces, `values` (pieces, width), into its row of `into` (words, width)."""
    owners = torch.tensor([-1 if w is None else w for w in segment.word_of])
    own = owners >= 0
    rows, inverse, counts = torch.unique(owners[own], return_inverse=True, return_counts=True)
    sums = torch.zeros(len(rows), values.shape[1], dtype=values.dtype)
    sums.index_add_(0, inverse, values[: len(owners)][own])
    into[rows] = sums / counts[:, None]
