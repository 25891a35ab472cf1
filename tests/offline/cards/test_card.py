"""A whole card: of this bundle's content, by any template of the package, and refused where it would mislead."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from models.bundle.card import body_of, written_for
from models.bundle.manifest import read_manifest
from models.errors import UserError
from offline.cards.card import make_card
from offline.cards.document import read_document
from offline.cards.template import read_template
from tests.offline.cards.made import judged, write_judgement

if TYPE_CHECKING:
    from pathlib import Path

    from models.bundle.load import Bundle
    from offline.cards.document import Document

HELD_BACK = {"held_back": "No fold trained on any of it."}


@pytest.fixture
def documents(people: Bundle, tmp_path: Path) -> dict[Path, Document]:
    """Faces by one detector, voices and texts in another document."""
    faces = write_judgement(tmp_path / "faces.json", people, judged("faces"), detector="yunet")
    others = write_judgement(tmp_path / "others.json", people, judged("voices"), judged("texts", seed=1))
    return {path: read_document(path) for path in (faces, others)}


def test_the_people_template_says_what_a_user_must_know(
    folder: Path, documents: dict[Path, Document]
) -> None:
    card = make_card(folder, documents, {**HELD_BACK, "training_time": "38 minutes"})
    assert written_for(card) == read_manifest(folder).content_hash
    assert card.startswith("---\nlicense: apache-2.0\n")
    assert "{{" not in card
    body = " ".join(body_of(card).split())
    for said in (
        *("No fold trained on any of it.", "Time: 38 minutes. Energy: not measured."),
        *(
            "not for diagnosis",
            "hiring",
            "lie detection",
            "policing",
            "not what a person feels",
            "(EU) 2024/1689",
        ),
        *("watermarks", "CC0", "Google Research", "PDDL", "MiniLM", "CC BY-SA 4.0", "ODbL", "measuring only"),
        *(
            "Aff-Wild2, on which the published method was trained, was **not used**",
            "sex, age or skin",
            "German",
        ),
        *("Barsoum", "Burkhardt", "Demszky", "Pennington", "Zhang", "ABAW3"),
        *("faces.npz, faces by yunet", "voices.npz", "texts.npz", "startled: hardly good or bad, very alert"),
    ):
        assert said in body, said
    assert "/home" not in card


def test_another_bundle_has_the_general_card(folder: Path) -> None:
    manifest = folder / "bundle.json"
    manifest.write_text(manifest.read_text().replace('"name": "people"', '"name": "mine"'))
    card = make_card(folder, {}, {})
    assert "\n# mine\n" in card
    assert "not known here" in card
    assert "FER+" not in card
    assert written_for(card) == read_manifest(folder).content_hash


def test_no_figure_stands_in_a_template() -> None:
    """Decimals come from documents and manifests; years, versions and the like are whole numbers or named."""
    for name in ("people", "general"):
        prose = re.sub(r"CC BY(-SA)? 4\.0|CC0 1\.0|apache-2\.0|Apache-2\.0|GloVe 6B", "", read_template(name))
        assert re.findall(r"\d+\.\d+", prose) == []


def test_judgements_of_other_content_are_refused(folder: Path, documents: dict[Path, Document]) -> None:
    manifest = folder / "bundle.json"
    manifest.write_text(manifest.read_text().replace('"seed": "2022"', '"seed": "2023"'))
    with pytest.raises(UserError, match=r"faces\.json judges other content \(people [0-9a-f]{12}\)"):
        make_card(folder, documents, HELD_BACK)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("# {{name}}\n", "lacks 'bundle_sha256: {{content_hash}}'"),
        (f"---\nbundle_sha256: {'0' * 64}\n---\n", "lacks 'bundle_sha256"),
        ("---\nbundle_sha256: {{content_hash}}\n---\n\x1b[2J", r"control character U\+001B"),
        ("---\nbundle_sha256: {{content_hash}}\n---\n" + "long " * 100_000, "too large"),
    ],
)
def test_what_would_be_no_card_is_refused(folder: Path, template: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_card(folder, {}, {}, template)
