"""A bundle's model card: `README.md`, for people to read, in the form of a Hugging Face model card.

Front matter in YAML between two lines of dashes, then sections in Markdown. No code goes by it: it is not among the
manifest's files, and the bundle's hash is the same with another card or none. The front matter names the content that
the card was written for, so that a card that was left behind by an earlier bundle can be told.
"""

from __future__ import annotations

import re
import shutil
import unicodedata
from typing import TYPE_CHECKING, Final

from models.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

CARD: Final = "README.md"
MOST_CARD_BYTES: Final = 256 * 1024

_RENEW: Final = "offline-card writes one anew"

CONTENT_KEY: Final = "bundle_sha256"
"""In the front matter: the hash of the content that the card was written for."""

_FRONT_MATTER: Final = re.compile(r"\A---\n(?P<head>.*?\n)---\n", re.DOTALL)


def has_card(folder: Path) -> bool:
    """Whether the bundle in a folder has a card."""
    return (folder / CARD).is_file()


def read_card(folder: Path) -> str:
    """The card of the bundle in a folder, as it was written.

    Raises UserError where there is none, and where it is none that a terminal may be given: too large, not UTF-8, or
    with control characters in it.
    """
    path = folder / CARD
    try:
        with path.open("rb") as file:
            content = file.read(MOST_CARD_BYTES + 1)
    except FileNotFoundError:
        raise UserError(f"the bundle in {folder} has no model card: offline-card writes one") from None
    except OSError as e:
        raise UserError(f"{path} cannot be read: {e.strerror or e}; {_RENEW}") from e
    return checked_card(content, str(path))


def checked_card(content: bytes, what: str) -> str:
    """A card's text. Raises UserError, beginning with `what`, as `read_card` does."""
    if len(content) > MOST_CARD_BYTES:
        raise UserError(
            f"{what} is too large for a model card: more than {MOST_CARD_BYTES // 1024} KiB; {_RENEW}"
        )
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as e:
        raise UserError(f"{what} is no model card: it is not UTF-8 text; {_RENEW}") from e
    text = text.replace("\r\n", "\n")
    if unfit := next((c for c in text if _commands_a_terminal(c)), None):
        raise UserError(
            f"{what} is no model card: it has the control character U+{ord(unfit):04X} in it; {_RENEW}"
        )
    return text


def _commands_a_terminal(character: str) -> bool:
    """Control and format characters, and separators that no editor shows; ends of lines and tabs apart."""
    return character not in "\n\t" and unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def keep_card(source: Path, target: Path) -> None:
    """Copy the card of the bundle in `source`, if it has one, to a bundle that takes its place. Raises OSError."""
    if has_card(source):
        shutil.copyfile(source / CARD, target / CARD)


def body_of(card: str) -> str:
    """The card without its front matter."""
    return _FRONT_MATTER.sub("", card, count=1).lstrip("\n")


def written_for(card: str) -> str | None:
    """The hash of the content that a card says it was written for, None where it names none."""
    head = _FRONT_MATTER.match(card)
    found = head and re.search(
        rf"^{CONTENT_KEY}: *['\"]?([0-9a-f]{{64}})['\"]? *$", head["head"], re.MULTILINE
    )
    return found[1] if found else None
