"""What is secret in options and addresses, left out of whatever is shown, logged or kept."""

from __future__ import annotations

import re
from typing import Final

HIDDEN: Final = "***"

_SECRET_WORDS: Final = ("password", "token", "secret")
# A password reaches to the last @ before the path, for it may have one itself.
_PASSWORD: Final = re.compile(r"(://[^/@\s:]*):[^/\s]*@")
_USER_AND_PASSWORD: Final = re.compile(r"(?<=://)[^/\s]+@")
# Where cameras and services take their keys.
_QUERY: Final = re.compile(r"(://[^\s?]*)\?\S+")


def is_secret(option: str) -> bool:
    """Whether an option of this name is never shown: a password or a token, but not the name of its file."""
    return any(word in option for word in _SECRET_WORDS) and not option.endswith("_file")


def hide_passwords(text: str) -> str:
    """The text; of every address in it without the password, and what follows a question mark."""
    return _hide_queries(_PASSWORD.sub(rf"\1:{HIDDEN}@", text))


def hide_credentials(text: str) -> str:
    """The text; of every address in it without user and password, and what follows a question mark."""
    return _hide_queries(_USER_AND_PASSWORD.sub(f"{HIDDEN}@", text))


def _hide_queries(text: str) -> str:
    return _QUERY.sub(rf"\1?{HIDDEN}", text)
