"""Written text as the words that somebody would say."""

from __future__ import annotations

import re
from typing import Final

_WORD: Final = re.compile(r"[a-z0-9]+(?:'[a-z]+)*")
_TOKEN: Final = re.compile(r"[a-z0-9]+(?:'[a-z]+)*|[^\sa-z0-9]")


def spoken_words(text: str) -> tuple[str, ...]:
    """The words as a recogniser gives them: lower case, no punctuation but apostrophes within words."""
    return tuple(_WORD.findall(_plain(text)))


def written_tokens(text: str) -> tuple[str, ...]:
    """Words and punctuation marks, lower case, each by itself."""
    return tuple(_TOKEN.findall(_plain(text)))


def _plain(text: str) -> str:
    return text.lower().replace("’", "'")
