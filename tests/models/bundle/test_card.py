"""A bundle's model card: plain text, outside the bundle's hash, and where the bundle goes it goes too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from models.bundle.card import CARD, MOST_CARD_BYTES, body_of, checked_card, has_card, read_card, written_for
from models.bundle.load import load_bundle, save_bundle
from models.errors import UserError
from tests.models.bundle.bundles import RECIPE, edit, network, refusal

if TYPE_CHECKING:
    from pathlib import Path

TEXT = "---\nlicense: apache-2.0\n---\n\n# A card\n\nWhat it is for: Prüfung, 試験.\n"


def test_it_is_outside_the_hash_and_survives_being_replaced(folder: Path) -> None:
    before = load_bundle(folder, missing_parts="tolerate").content_hash
    assert not has_card(folder)
    (folder / CARD).write_text(TEXT, encoding="utf-8")
    assert load_bundle(folder, missing_parts="tolerate").content_hash == before
    again = save_bundle(
        folder, name="again", folds=[network(9)], recipe=RECIPE.model_copy(update={}), trained=True
    )
    assert again.content_hash != before
    assert read_card(folder) == TEXT


def test_a_manifest_cannot_name_it(folder: Path) -> None:
    for name in (CARD, CARD.lower()):
        edit(folder, lambda content, name=name: content["probe"].update(name=name))  # type: ignore[misc]
        assert "every file needs a name of its own" in refusal(folder)


def test_a_bundle_without_one_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no model card: offline-card writes one$"):
        read_card(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"x" * (MOST_CARD_BYTES + 1), "too large for a model card: more than 256 KiB"),
        (b"caf\xe9", "not UTF-8"),
        (b"\x1b[2J all gone", r"control character U\+001B"),
        ("turned \u202e round".encode(), r"control character U\+202E"),
        (b"\0", r"control character U\+0000"),
    ],
)
def test_what_a_terminal_should_not_be_given_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / CARD).write_bytes(content)
    with pytest.raises(UserError, match=message) as refused:
        read_card(tmp_path)
    assert str(tmp_path / CARD) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_card_as_large_as_allowed_and_ends_of_lines_of_windows_are_read() -> None:
    assert len(checked_card(b"x" * MOST_CARD_BYTES, "a card")) == MOST_CARD_BYTES
    assert checked_card("a\u00a0b\r\n\tc".encode(), "a card") == "a\u00a0b\n\tc"


def test_the_front_matter_is_told_from_the_rest() -> None:
    assert body_of(TEXT) == "# A card\n\nWhat it is for: Prüfung, 試験.\n"
    assert (
        body_of("# Bare\n\n---\n\nnot front matter\n\n---\n") == "# Bare\n\n---\n\nnot front matter\n\n---\n"
    )


def test_the_content_that_it_was_written_for_stands_in_the_front_matter() -> None:
    content = "0123456789abcdef" * 4
    assert written_for(TEXT) is None
    assert written_for(f"---\nlicense: x\nbundle_sha256: {content}\n---\nA card") == content
    assert written_for(f"---\nbundle_sha256: '{content}'\n---\n") == content
    assert written_for(f"# A card\nbundle_sha256: {content}\n") is None
