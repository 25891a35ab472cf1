"""Word vectors from a BERT-family model: each word within its utterance so far."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.errors import UserError
from models.spec import SUMMED_LAYERS
from models.text.loading import open_text_model
from models.text.tokenizer import pad, pool_words

if TYPE_CHECKING:
    from pathlib import Path

Vectors = NDArray[np.float32]
Encode = Callable[[Tensor, Tensor], Tensor]
"""Piece ids and mask (N, L) int64 to the sum of the encoder's last layers (N, L, width)."""


class Punctuator(Protocol):
    """Puts punctuation and capitals into words."""

    def punctuate(self, words: Sequence[str]) -> tuple[str, ...]:
        """As many words, in the same order."""
        ...


class TextEmbedder:
    """A word's vector is the sum of the model's last four hidden layers, its sub-word pieces averaged.

    Source: report section 3.3 (BERT base, 768 wide, after punctuation and capitalisation); a model of fewer
    than four layers gives the sum of all it has. The recogniser's `[unk]` is the model's unknown token.
    """

    def __init__(
        self,
        folder: Path,
        punctuator: Punctuator | None = None,
        *,
        expected_width: int | None = None,
        cache_size: int = 256,
        batch_size: int = 32,
    ) -> None:
        """Loads the BERT-family model in `folder` from local safetensors only.

        `cache_size` utterances are remembered, `batch_size` passes run at once in `embed_batch`. Raises
        UserError where the folder holds no such model, or one of another width than `expected_width`.
        """
        if cache_size < 0 or batch_size < 1:
            raise ValueError("cache_size must be at least 0 and batch_size at least 1")
        self._model, self._tokenizer = open_text_model(folder, "encoder")
        self._punctuator = punctuator
        self._width = int(self._model.config.hidden_size)
        if expected_width is not None and self._width != expected_width:
            raise UserError(
                f"the text encoder in '{folder}' is {self._width} wide, but the bundle wants "
                f"{expected_width}: give the encoder that the bundle was trained with"
            )
        self._cache: OrderedDict[tuple[str, ...], Vectors] = OrderedDict()
        self._cache_size = cache_size
        self._batch_size = batch_size
        self._encode: Encode = self._encode_eagerly
        self.hits = self.misses = 0

    @property
    def width(self) -> int:
        """Width of a word's vector."""
        return self._width

    @property
    def model(self) -> nn.Module:
        """The encoder itself, to be accelerated."""
        model: nn.Module = self._model
        return model

    def run_by(self, encode: Encode) -> TextEmbedder:
        """The same embedder, whose `embed` is computed by `encode`; it remembers nothing yet.

        `embed` is as repeatable as `encode` is. `embed_batch` stays the model's own.
        """
        other = copy.copy(self)
        other._encode, other._cache = encode, OrderedDict()
        other.hits = other.misses = 0
        return other

    def embed(self, words: Sequence[str]) -> Vectors:
        """The words of one utterance so far -> (n_words, width) float32, read-only.

        The same words always give the same bits, whatever came before.
        """
        key = tuple(words)
        known = self._cache.get(key)
        if known is not None:
            self.hits += 1
            self._cache.move_to_end(key)
            return known
        self.misses += 1
        segments = self._tokenizer.segments(self._punctuate(key))
        vectors = torch.zeros(len(key), self._width)
        for segment in segments:
            pool_words(self._encode(*pad([segment], self._tokenizer.pad_id))[0], segment, vectors)
        result = _read_only_array(vectors)
        self._cache[key] = result
        while len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)
        return result

    def embed_batch(self, utterances: Sequence[Sequence[str]]) -> list[Vectors]:
        """Many utterances, padded and run together: as `embed` for each, within 1e-5 of its vectors' scale.

        For work in bulk. Padding changes the last bits, so the cache is neither asked nor filled: `embed`
        stays repeatable to the bit.
        """
        keys = [tuple(words) for words in utterances]
        distinct = {key: torch.zeros(len(key), self._width) for key in keys}
        passes = [
            (segment, vectors)
            for key, vectors in distinct.items()
            for segment in self._tokenizer.segments(self._punctuate(key))
        ]
        passes.sort(key=lambda p: len(p[0].ids))
        for at in range(0, len(passes), self._batch_size):
            batch = passes[at : at + self._batch_size]
            states = self._encode_eagerly(*pad([segment for segment, _ in batch], self._tokenizer.pad_id))
            for state, (segment, vectors) in zip(states, batch, strict=True):
                pool_words(state, segment, vectors)
        frozen = {key: _read_only_array(vectors) for key, vectors in distinct.items()}
        return [frozen[key] for key in keys]

    def _punctuate(self, words: tuple[str, ...]) -> tuple[str, ...]:
        if self._punctuator is None or not words:
            return words
        punctuated = self._punctuator.punctuate(words)
        if len(punctuated) != len(words):
            raise ValueError(f"punctuation made {len(punctuated)} words of {len(words)}")
        return punctuated

    @torch.inference_mode()
    def _encode_eagerly(self, ids: Tensor, mask: Tensor) -> Tensor:
        # Without a mask a faster routine attends; a graph, which has to hold for any, always has one.
        return sum_last_layers(self._model, ids, None if bool(mask.all()) else mask)


def sum_last_layers(model: nn.Module, ids: Tensor, mask: Tensor | None) -> Tensor:
    """Piece ids and mask (N, L) int64 (None: all ones) to the sum of a BERT-family model's last four layers
    (N, L, E); of all layers, where the model has fewer.
    """
    found: Any = model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
    # hidden_states[0] is what enters the first layer.
    return torch.stack(found.hidden_states[1:][-SUMMED_LAYERS:]).sum(dim=0)


def _read_only_array(vectors: Tensor) -> Vectors:
    array: Vectors = vectors.numpy()
    array.setflags(write=False)
    return array
