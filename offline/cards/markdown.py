"""Tables and text of a card in Markdown. Pure."""

from __future__ import annotations

import re
import shlex
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

Row = tuple[str, ...]

_ABSOLUTE: Final = re.compile(r"(?<![\w:/.~-])~?(?:/[^\s/'\",;:]+)+/?")


def table(head: Row, rows: Sequence[Row], numbers: int = 0) -> str:
    """A table whose last `numbers` columns are aligned to the right; `|` and ends of lines in cells are escaped."""
    rules = ("---",) * (len(head) - numbers) + ("---:",) * numbers
    lines = [head, rules, *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def code_block(text: str) -> str:
    """Text in a fenced block."""
    return f"```\n{text}\n```"


def without_folders(text: str) -> str:
    """The text with absolute paths cut to their last names: a card tells nothing of the machine it was made on."""
    return _ABSOLUTE.sub(lambda found: PurePath(found[0]).name, text)


def command_without_folders(command: str) -> str:
    """A command line with absolute paths cut to their last names, also those with spaces and behind `--option=`."""
    try:
        words = shlex.split(command)
    except ValueError:
        return without_folders(command)
    return shlex.join(_short_argument(word) for word in words)


def decimals(value: float, places: int = 3, *, sign: bool = False) -> str:
    """A number with so many decimals; what rounds to zero has no minus."""
    rounded = round(value, places) or 0.0
    return f"{rounded:{'+' if sign else ''}.{places}f}"


def pair(values: tuple[float, float]) -> str:
    """Valence and arousal."""
    return ", ".join(decimals(value, 2, sign=True) for value in values)


def _short_argument(word: str) -> str:
    option, equals, value = word.partition("=")
    if equals and option.startswith("-"):
        return f"{option}={_short_argument(value)}"
    return PurePath(word).name or word if word.startswith(("/", "~")) else word


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
