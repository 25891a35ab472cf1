"""Templates are filled whole or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from models.errors import UserError
from offline.cards.template import TEMPLATES, fill, read_template, template_for

if TYPE_CHECKING:
    from pathlib import Path

VALUES = {"name": lambda: "people", "empty": lambda: "", "never": lambda: str(1 // 0)}


def test_only_what_is_asked_for_is_made() -> None:
    assert fill("# {{name}}, {{ name }}\n\n{{empty}}\n\nEnd", VALUES, {}) == "# people, people\n\nEnd\n"


def test_facts_are_said_or_have_an_alternative() -> None:
    template = "{{fact:time}} {{fact:energy|not measured}}"
    assert fill(template, VALUES, {"time": "an hour"}) == "an hour not measured\n"
    assert fill(template, VALUES, {"time": "1 h", "energy": "1 kWh"}) == "1 h 1 kWh\n"


@pytest.mark.parametrize(
    ("template", "facts", "message"),
    [
        (
            "{{nmae}}",
            {},
            r"the template has a place \{\{nmae\}\}, but there is only empty, name, never, and fact",
        ),
        ("{{name|other}}", {}, "has a place"),
        ("{{fact:time}}", {}, "asks for the fact time: give --fact time=TEXT"),
        ("{{name}}", {"time": "1 h"}, "no place for the fact time: it asks for none"),
        ("{{fact:time}}", {"tiem": "1 h", "time": "1 h"}, "no place for the fact tiem: it asks for time"),
    ],
)
def test_what_does_not_fit_is_one_line(template: str, facts: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        fill(template, VALUES, facts)
    assert "\n" not in str(refused.value)


def test_a_template_is_shipped_or_a_file(tmp_path: Path) -> None:
    assert read_template("people") == (TEMPLATES / "people.md").read_text(encoding="utf-8")
    (tmp_path / "mine.md").write_text("# {{name}}")
    assert read_template(str(tmp_path / "mine.md")) == "# {{name}}"
    with pytest.raises(
        UserError, match="there is no template 'other': give a file, or one of general, people"
    ):
        read_template("other")
    (tmp_path / "odd.md").write_bytes(b"\xff")
    with pytest.raises(UserError, match="cannot be read"):
        read_template(str(tmp_path / "odd.md"))


def test_a_bundle_has_the_template_of_its_name_or_the_general_one() -> None:
    assert template_for("people") == read_template("people")
    assert template_for("mine") == read_template("general")


def test_lines_of_templates_are_short() -> None:
    for path in TEMPLATES.glob("*.md"):
        long = [
            line for line in path.read_text().splitlines() if len(line) > 120 and not line.startswith("|")
        ]
        assert not long, path
