"""What a real person in front of a camera needs, under one name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from models.parts.registry import get_part

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from models.parts.registry import PretrainedPart

RECOMMENDED: Final = "recommended"
"""In `models-pull recommended`: the parts below, and those that shipped bundles need besides."""

FOR_REAL_PEOPLE: Final = ("yunet", "vosk-model-small-en-us-0.15")
"""A detector of turned, dark and small faces; a recogniser of English that is light enough to hear live."""


def chosen_parts(names: Iterable[str], wanted_by_bundles: Sequence[str] = ()) -> list[PretrainedPart]:
    """The parts of these names, `recommended` taken for what it means; each once, in this order.

    Raises UserError for an unknown name.
    """
    found: dict[str, PretrainedPart] = {}
    for name in names:
        each = (*FOR_REAL_PEOPLE, *wanted_by_bundles) if name == RECOMMENDED else (name,)
        found |= {one: get_part(one) for one in each}
    return list(found.values())


def pull_command_for(names: Sequence[str]) -> str:
    """The one command that installs these parts."""
    if len(names) > 1 and set(names) <= set(FOR_REAL_PEOPLE):
        return f"models-pull {RECOMMENDED}"
    return f"models-pull {' '.join(names)}"


def size_and_licence(part: PretrainedPart) -> str:
    """`yunet (face detector, 1 MB, MIT)`."""
    return f"{part.name} ({part.purpose.partition(':')[0]}, {part.megabytes} MB, {part.licence})"
