"""The words that a text encoder knows from the start, where GloVe puts them, and texts as pieces of them."""

from __future__ import annotations

import zipfile
import zlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.errors import UserError
from models.files import file_hash
from models.text.small_bert import SPECIAL, make_tokenizer, spell_words
from offline.files import reason
from offline.people.text_normalisation import spoken_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

Float32 = NDArray[np.float32]

_WAY_OUT: Final = (
    "give an .npz with words (n,), the most common first, and their vectors (n, width), as GloVe's"
)

MOST_PIECES: Final = 40
"""Pieces of a text that learning looks at."""

UNKNOWN_PIECE: Final = SPECIAL.index("[UNK]")
_BEGIN: Final = SPECIAL.index("[CLS]")
_END: Final = SPECIAL.index("[SEP]")

_ENDINGS: Final = ("es", "ed", "ing", "er", "est", "ly", "ness", "less", "ful", "able", "ment")
_FREQUENT_COUNT: Final = 3
"""How often texts must use a word for it to be among the first to be taken."""


@dataclass(frozen=True, eq=False)
class WordVectors:
    """Words in the order of how common they are, their vectors (n, width), and the file's SHA-256."""

    words: tuple[str, ...]
    vectors: Float32
    sha256: str


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Pieces, and a vector (pieces, width) for each, of unit variance; zero for pieces that have none."""

    pieces: tuple[str, ...]
    vectors: Float32

    def tokenizer(self) -> Any:
        """As transformers knows it."""
        return make_tokenizer(self.pieces)


def read_word_vectors(path: Path) -> WordVectors:
    """An .npz of `words` (n,), the most common first, and `vectors` (n, width), such as GloVe's.

    Raises UserError where the file is absent or of another form.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            words, vectors = archive["words"], archive["vectors"].astype(np.float32)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist", way_out=_WAY_OUT) from None
    except (
        *(OSError, ValueError, KeyError, TypeError, AttributeError, EOFError),
        *(zipfile.BadZipFile, zlib.error),
    ) as e:
        raise UserError(f"{path} is no .npz of words and vectors ({reason(e)})", way_out=_WAY_OUT) from e
    if words.ndim != 1 or vectors.ndim != 2 or len(words) != len(vectors) or len(words) < 2:
        raise UserError(f"{path} must hold words (n,) and vectors (n, width), n > 1", way_out=_WAY_OUT)
    if not np.isfinite(vectors).all():
        raise UserError(f"{path} holds vectors that are not finite", way_out=_WAY_OUT)
    return WordVectors(tuple(str(word) for word in words), vectors, file_hash(path))


def choose_vocabulary(known: WordVectors, texts: Sequence[str], size: int) -> Vocabulary:
    """Up to `size` whole words: those that the texts use often, then the most common others; and characters and
    endings to spell the rest.
    """
    rows = {word: i for i, word in enumerate(known.words)}
    counts = Counter(part for text in texts for part in _without_apostrophes(spoken_words(text)))
    common = [word for word in known.words if word.isascii() and word.isalpha() and len(word) > 1]
    # In the order of how common words are, so that the choice does not hang on the order of the texts.
    often = [word for word in common if counts[word] >= _FREQUENT_COUNT]
    pieces = spell_words(list(dict.fromkeys([*often, *common]))[:size], _ENDINGS)
    scaled = (known.vectors - known.vectors.mean(0)) / (known.vectors.std(0) + np.float32(1e-6))
    vectors = np.zeros((len(pieces), scaled.shape[1]), np.float32)
    for i, piece in enumerate(pieces):
        if piece in rows:
            vectors[i] = scaled[rows[piece]]
    return Vocabulary(pieces, vectors)


def cut_pieces(tokenizer: Any, texts: Sequence[Sequence[str]]) -> list[list[int]]:
    """Each text's pieces without the special ones, at least one."""
    encoded = tokenizer(
        [list(words) or ["[UNK]"] for words in texts],
        is_split_into_words=True,
        add_special_tokens=False,
        verbose=False,
    )
    return [list(ids[:MOST_PIECES]) or [UNKNOWN_PIECE] for ids in encoded["input_ids"]]


def pad_pieces(pieces: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Ids with what begins and ends a text, attention mask, and 1 where a text's own pieces are, (N, L) each."""
    longest = max(len(p) for p in pieces) + 2
    ids = np.zeros((len(pieces), longest), np.int64)
    lengths = np.array([len(p) for p in pieces])
    for row, own in zip(ids, pieces, strict=True):
        row[: len(own) + 2] = [_BEGIN, *own, _END]
    at = np.arange(longest)[None]
    mask = at < lengths[:, None] + 2
    inner = (at > 0) & (at <= lengths[:, None])
    return torch.from_numpy(ids), torch.from_numpy(mask.astype(np.int64)), torch.from_numpy(inner).float()


def mean_over_pieces(states: Tensor, own: Tensor) -> Tensor:
    """States (N, L, width) averaged over a text's own pieces, (N, width)."""
    means: Tensor = (states * own[..., None]).sum(1) / own.sum(1, keepdim=True)
    return means


def _without_apostrophes(words: Sequence[str]) -> Iterator[str]:
    for word in words:
        yield from word.split("'")
