"""The model card of a bundle: a template filled with its manifest and with judgements of it; no figure is typed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from models.bundle.card import CONTENT_KEY, checked_card, written_for
from models.bundle.manifest import read_manifest
from models.errors import UserError
from offline.cards import bundle_tables, judgements
from offline.cards.document import collect
from offline.cards.goals import goals_table
from offline.cards.template import fill, template_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from models.bundle.manifest import Manifest
    from offline.cards.document import Document


def make_card(
    folder: Path,
    documents: Mapping[Path, Document],
    facts: Mapping[str, str],
    template: str | None = None,
) -> str:
    """The card of the bundle in a folder, `documents` being judgements of it by the files that they were read from.

    Without a `template` the bundle's own is taken, or the general one. Raises UserError where a document judges
    another content than the bundle has now, where the template cannot be filled, and where what comes of it is no
    card.
    """
    manifest = read_manifest(folder)
    for path, document in documents.items():
        _check_judged(path, document, manifest)
    text = fill(
        template_for(manifest.name) if template is None else template,
        _values(folder, manifest, list(documents.values())),
        facts,
    )
    text = checked_card(text.encode(), "what the template gives")
    if written_for(text) != manifest.content_hash:
        raise UserError(
            f"a card's front matter names the content that it is of: the template lacks '{CONTENT_KEY}: "
            "{{content_hash}}' between its first two lines of dashes",
            way_out="add that line",
        )
    return text


def _check_judged(path: Path, document: Document, manifest: Manifest) -> None:
    if document.bundle.content_hash != manifest.content_hash:
        raise UserError(
            f"{path} judges other content ({document.bundle.name} {document.bundle.content_hash[:12]}) than the "
            f"bundle '{manifest.name}' has ({manifest.content_hash[:12]}): judge it again"
        )


def _values(folder: Path, manifest: Manifest, documents: Sequence[Document]) -> dict[str, Callable[[], str]]:
    """Each place that a template may have, and what fills it."""
    judged = collect(documents)
    return {
        "name": lambda: manifest.name,
        "note": lambda: manifest.note,
        "content_hash": lambda: manifest.content_hash,
        "facts": partial(_facts, folder, manifest),
        "folds": partial(bundle_tables.folds_table, manifest),
        "recipe": partial(bundle_tables.recipe_table, manifest),
        "provenance": partial(bundle_tables.provenance_table, manifest, folder),
        "spread": partial(bundle_tables.spread_table, manifest),
        "emotions": bundle_tables.emotion_table,
        "composition": bundle_tables.composition_table,
        "summary": partial(judgements.summary, judged),
        "judgements": partial(judgements.details, judged),
        "goals": partial(goals_table, judged),
        "reach": partial(judgements.reach, judged),
        "coverage": partial(judgements.coverage, judged),
        "commands": partial(judgements.commands, documents),
        "model_index": partial(judgements.metadata, manifest.name, judged),
    }


def _facts(folder: Path, manifest: Manifest) -> str:
    from models.bundle.card import CARD
    from models.bundle.size import bytes_on_disk, count_parameters

    card = folder / CARD
    content = bytes_on_disk(folder) - (card.stat().st_size if card.is_file() else 0)
    return bundle_tables.facts_table(manifest, count_parameters(manifest), content / 1e6)
