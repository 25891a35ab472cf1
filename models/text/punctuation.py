"""Punctuation and capitals, put into a recogniser's bare words by a token-classification model.

Labels are understood as a mark, a case, or both, in either order, glued or joined by one of `-_ +/|`:

- a mark after the word: `. , ? ! : ; - '`, or PERIOD, FULLSTOP, DOT, COMMA, QUESTION, QUESTIONMARK,
  EXCLAMATION, EXCLAMATIONMARK, COLON, SEMICOLON, DASH, HYPHEN, APOSTROPHE;
- no mark, small letters: `0`, `O`, NONE, LOWER, L, and the empty label;
- capital first letter: U, UPPER, CAP, CAPITAL, CAPITALIZED, TITLE;
- all capitals: ALLCAPS, CAPS.

So `0 . , ? - :`, `O PERIOD COMMA QUESTION`, `OO OU .O ,U ?U` and `LOWER-COMMA UPPER-PERIOD` all work. Words
are taken case-blind. A prefix `B-` or `I-` is ignored.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import torch

from models.errors import UserError
from models.speech.words import UNKNOWN
from models.text.loading import open_text_model
from models.text.tokenizer import pad, pool_words

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Case = Literal["", "first", "all"]

_MARKS: Final = {
    **{mark: mark for mark in ".,?!:;-'"},
    **dict.fromkeys(("PERIOD", "FULLSTOP", "DOT"), "."),
    "COMMA": ",",
    **dict.fromkeys(("QUESTION", "QUESTIONMARK"), "?"),
    **dict.fromkeys(("EXCLAMATION", "EXCLAMATIONMARK"), "!"),
    "COLON": ":",
    "SEMICOLON": ";",
    **dict.fromkeys(("DASH", "HYPHEN"), "-"),
    "APOSTROPHE": "'",
}
_CASES: Final[dict[str, Case]] = {
    **dict.fromkeys(("U", "UPPER", "CAP", "CAPITAL", "CAPITALIZED", "TITLE"), "first"),
    **dict.fromkeys(("ALLCAPS", "CAPS"), "all"),
}
_NOTHING: Final = frozenset({"", "0", "O", "NONE", "LOWER", "L"})


@dataclass(frozen=True)
class Mark:
    """What a label asks for: a mark after the word, and capitals."""

    after: str = ""
    case: Case = ""

    def apply(self, word: str) -> str:
        """The word with it. The recogniser's unknown word gets no capitals."""
        if word != UNKNOWN:
            if self.case == "first":
                word = word[:1].upper() + word[1:]
            elif self.case == "all":
                word = word.upper()
        return word + self.after


def parse_label(label: str) -> Mark:
    """The meaning of a label (listed above). Raises ValueError for one that is not understood."""
    text = re.sub(r"^[BI]-(?=.)", "", label.strip().upper())
    whole = _parse([text])
    if whole is not None:
        return whole
    for parts in ([text[:1], text[1:]], [text[:-1], text[-1:]], re.split(r"[-_ +/|]", text)):
        mark = _parse(parts)
        if mark is not None:
            return mark
    raise ValueError(f"the label '{label}' names no punctuation or case that is known")


def _parse(parts: Sequence[str]) -> Mark | None:
    after, case = "", ""
    for part in parts:
        if part in _MARKS and not after:
            after = _MARKS[part]
        elif part in _CASES and not case:
            case = _CASES[part]
        elif part not in _NOTHING:
            return None
    return Mark(after, case)  # type: ignore[arg-type]


class TokenPunctuator:
    """Punctuation and capitals by a `transformers` token-classification model given by folder.

    A word gets the label with the highest mean probability over its sub-word pieces.
    """

    def __init__(self, folder: Path) -> None:
        """Loads from local safetensors only.

        Raises UserError where the folder holds no such model, or a label of it is not understood.
        """
        self._model, self._tokenizer = open_text_model(folder, "token-classification")
        labels = self._model.config.id2label
        try:
            self._marks = tuple(parse_label(labels[i]) for i in range(len(labels)))
        except ValueError as error:
            raise UserError(
                f"the punctuation model in '{folder}' cannot be used: {error}; give another one, or leave it out"
            ) from None

    @torch.inference_mode()
    def punctuate(self, words: Sequence[str]) -> tuple[str, ...]:
        """Puts marks and capitals into the words of one utterance so far: as many, in the same order."""
        scores = torch.zeros(len(words), len(self._marks))
        for segment in self._tokenizer.segments(words):
            ids, mask = pad([segment], self._tokenizer.pad_id)
            logits = self._model(input_ids=ids, attention_mask=mask).logits[0]
            pool_words(logits.softmax(dim=-1), segment, scores)
        best = scores.argmax(dim=1).tolist()
        return tuple(self._marks[label].apply(word) for word, label in zip(words, best, strict=True))
