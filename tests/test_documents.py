"""What the documents point to is there, and the README stays short."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md")])
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
COMMANDS = sorted(tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["scripts"])


def prose(path: Path) -> str:
    """A document without its code blocks."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"^ {4}.*$", "", text, flags=re.MULTILINE)


def anchors(path: Path) -> set[str]:
    """The anchors that a document's headings give, as hosts of repositories make them."""
    headings = re.findall(r"^#+ +(.+)$", prose(path), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = document.parent / name if name else document
        assert file.exists(), f"{document.name} links to {target}"
        assert not anchor or anchor in anchors(file), f"{document.name} links to {target}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_lines_are_short(document: Path) -> None:
    long = [line for line in prose(document).splitlines() if len(line) > 118 and not line.startswith("|")]
    assert not long


def test_the_readme_is_short_and_begins_with_its_two_commands() -> None:
    assert len(README.splitlines()) <= 120
    commands = re.findall(
        r"^ {4}(make \w+|[\w-]+-\w+ .*)$", re.sub(r" +#.*$", "", README, flags=re.MULTILINE), re.M
    )
    assert commands[:2] == ["make demo", "make test"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_the_documents(command: str) -> None:
    assert any(command in document.read_text(encoding="utf-8") for document in DOCUMENTS)


@pytest.mark.parametrize("floor", ["models", "stream", "offline"])
def test_the_architecture_names_every_room(floor: str) -> None:
    text = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = [path.parent.name for path in (REPOSITORY / floor).glob("*/__init__.py")]
    assert rooms
    assert [room for room in rooms if f"`{room}/`" not in text] == []


def test_tests_that_the_architecture_names_are_there() -> None:
    text = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    defined = "\n".join(
        path.read_text(encoding="utf-8") for path in (REPOSITORY / "tests").rglob("test_*.py")
    )
    for name in set(re.findall(r"`(test_\w+)`", text)):
        assert f"def {name}(" in defined, name
    for path in set(re.findall(r"`(tests/[\w/]+)(?:\.py)?/?`", text)):
        assert (REPOSITORY / path).is_dir() or (REPOSITORY / f"{path}.py").is_file(), path
