"""Words as a text model's sub-word pieces: opening a model's folder, tokenising, splitting, padding."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import torch
from torch import Tensor

from models.errors import UserError
from models.speech.words import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Task = Literal["encoder", "token-classification"]

_SAVE_AGAIN: Final = "save it again from a sound one, or give another"


@dataclass(frozen=True)
class Segment:
    """As many words in a row as fit into one pass of the model.

    `ids`: the pieces with the model's special tokens around them; `word_of`: per piece the word's index in
    the whole text, None for special tokens.
    """

    ids: tuple[int, ...]
    word_of: tuple[int | None, ...]


class PieceTokenizer:
    """A fast `transformers` tokenizer, with the model's length limit.

    The recogniser's unknown word becomes the tokenizer's unknown token; so does a word that yields no piece
    at all: every word has at least one.
    """

    def __init__(self, tokenizer: Any, config: Any, folder: Path) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise UserError(f"the tokenizer in '{folder}' has no tokenizer.json: save its fast form there")
        self._tokenizer = tokenizer
        self._unknown: str | None = tokenizer.unk_token
        self.pad_id: int = tokenizer.pad_token_id or 0
        positions = int(getattr(config, "max_position_embeddings", 0) or 512)
        if "roberta" in config.model_type or config.model_type in ("camembert", "mpnet"):
            positions -= int(getattr(config, "pad_token_id", 1) or 0) + 1  # positions start after the padding
        limit = min(positions, int(tokenizer.model_max_length))
        # The special tokens around a text, found by tokenising one.
        probe = self._encode(["a"])
        body = [i for i, word in enumerate(probe.word_of) if word is not None]
        if not body:
            raise UserError(
                f"the tokenizer in '{folder}' makes nothing of the letter a: it is not a text model's; "
                "give one that is"
            )
        self._prefix, self._suffix = probe.ids[: body[0]], probe.ids[body[-1] + 1 :]
        self.capacity = limit - len(self._prefix) - len(self._suffix)
        if self.capacity < 1:
            raise UserError(
                f"the text model in '{folder}' takes only {limit} positions: too few for a word; give a larger one"
            )
        if len(tokenizer) > int(config.vocab_size):
            raise UserError(
                f"the tokenizer in '{folder}' has {len(tokenizer)} pieces but its model {config.vocab_size}: "
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
        unknown = self._tokenizer.unk_token_id
        return self.pad_id if unknown is None else int(unknown)

    def _replace_unknown(self, word: str) -> str:
        return word.replace(UNKNOWN, self._unknown) if self._unknown else word

    def _with_special_tokens(self, ids: list[int], owners: list[int | None]) -> Segment:
        return Segment(
            (*self._prefix, *ids, *self._suffix),
            (*[None] * len(self._prefix), *owners, *[None] * len(self._suffix)),
        )

    def _encode(self, texts: Sequence[str]) -> Segment:
        if not texts:
            return Segment((), ())
        out = self._tokenizer(list(texts), is_split_into_words=True, truncation=False, verbose=False)
        return Segment(tuple(out["input_ids"]), tuple(out.word_ids()))


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


def open_text_model(folder: Path, task: Task) -> tuple[Any, PieceTokenizer]:
    """Loads the `transformers` model and tokenizer in `folder`: local files, safetensors, float32, eval mode.

    Raises UserError, in one line, where the folder does not exist, holds no such model, has weights in
    another form than safetensors, lacks a weight, or has one that is not finite. Runs no code of the folder.
    """
    folder = Path(folder)
    what = "text encoder" if task == "encoder" else "punctuation model"
    if not folder.is_dir():
        raise UserError(f"no {what} at '{folder}': give the folder of a saved transformers model")
    if not (folder / "config.json").is_file():
        raise UserError(
            f"'{folder}' holds no {what} (config.json is missing): give a saved transformers model"
        )
    if not any(folder.glob("*.safetensors")):
        raise UserError(f"the {what} in '{folder}' has no .safetensors weights: save it as safetensors")
    with _silence_transformers():
        from transformers import AutoModel, AutoModelForTokenClassification, AutoTokenizer

        auto = AutoModel if task == "encoder" else AutoModelForTokenClassification
        only = {"local_files_only": True, "trust_remote_code": False}
        try:
            model, info = auto.from_pretrained(
                str(folder), use_safetensors=True, dtype=torch.float32, output_loading_info=True, **only
            )
            # Byte-level tokenizers (RoBERTa's) tell a word's start by the space before it.
            tokenizer = AutoTokenizer.from_pretrained(str(folder), add_prefix_space=True, **only)
        except Exception as error:  # OSError, ValueError, SafetensorError and more
            raise UserError(
                f"cannot load the {what} in '{folder}': {_one_line(error)}; {_SAVE_AGAIN}"
            ) from error
    # An encoder's pooler is not used here, and often not saved.
    missing = sorted(name for name in info["missing_keys"] if "pooler" not in name)
    odd = missing + sorted(str(m[0]) for m in info["mismatched_keys"])
    if odd:
        raise UserError(
            f"the {what} in '{folder}' does not fit its config.json: weight {odd[0]} is missing or wrong; "
            f"{_SAVE_AGAIN}"
        )
    bad = [name for name, p in model.named_parameters() if not bool(torch.isfinite(p).all())]
    if bad:
        raise UserError(f"the {what} in '{folder}' is damaged: weight {bad[0]} is not finite; {_SAVE_AGAIN}")
    model.eval().requires_grad_(False)
    return model, PieceTokenizer(tokenizer, model.config, folder)


@contextmanager
def _silence_transformers() -> Iterator[None]:
    """No progress bars and no warnings of `transformers` on the terminal."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
