"""A card's template: text with places in double braces, filled strictly.

{{name}}             a table, or a figure, of the bundle or its judgements
{{fact:NAME}}        what was said on the command line; without it there is no card
{{fact:NAME|TEXT}}   the same, or TEXT where it was not said
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from models.errors import UserError
from offline.files import reason

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TEMPLATES: Final = Path(__file__).parent / "templates"
GENERAL: Final = "general"
"""The template of bundles that have none of their own name."""

_PLACE: Final = re.compile(r"\{\{\s*(?P<name>[^{}|]*?)\s*(?:\|(?P<otherwise>[^{}]*))?\}\}")
_FACT: Final = re.compile(r"fact:\s*(?P<name>[a-z][a-z0-9_]*)")


def read_template(name_or_path: str) -> str:
    """A template that comes with the package, by its name, or a file's. Raises UserError where there is none."""
    shipped = {path.stem: path for path in TEMPLATES.glob("*.md")}
    path = shipped.get(name_or_path, Path(name_or_path).expanduser())
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(
            f"there is no template '{name_or_path}': give a file, or one of {', '.join(sorted(shipped))}"
        ) from None
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(
            f"the template {path} cannot be read ({reason(e)})", way_out="give a text file in UTF-8"
        ) from e


def template_for(bundle: str) -> str:
    """The template of a bundle by its name: its own where the package has one, else the general one."""
    own = any(path.stem == bundle for path in TEMPLATES.glob("*.md"))
    return read_template(bundle if own else GENERAL)


def fill(template: str, values: Mapping[str, Callable[[], str]], facts: Mapping[str, str]) -> str:
    """The template with every place filled; only what it asks for is made.

    Raises UserError for a place that has no such name, for a fact that it asks for and that was not given, and for
    one that was given and that it has no place for.
    """
    wanted: set[str] = set()

    def value_of(place: re.Match[str]) -> str:
        name, otherwise = place["name"], place["otherwise"]
        fact = _FACT.fullmatch(name)
        if fact is not None:
            wanted.add(fact["name"])
            if fact["name"] in facts:
                return facts[fact["name"]]
            if otherwise is None:
                raise UserError(
                    f"the template asks for the fact {fact['name']}: give --fact {fact['name']}=TEXT"
                )
            return otherwise.strip()
        if name not in values or otherwise is not None:
            raise UserError(
                f"the template has a place {place[0]}, but there is only {', '.join(sorted(values))}, and fact:NAME",
                way_out="take the place out, or name it as one of these",
            )
        return values[name]()

    filled = _PLACE.sub(value_of, template)
    if unused := sorted(facts.keys() - wanted):
        raise UserError(
            f"the template has no place for the fact {unused[0]}: it asks for {', '.join(sorted(wanted)) or 'none'}",
            way_out=f"leave --fact {unused[0]} out",
        )
    return re.sub(r"\n{3,}", "\n\n", filled).strip("\n") + "\n"
