"""What the documents point to is there, and the README stays short."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md")])
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
ARCHITECTURE = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
COVERED = "## Modules without a test file of their own name"
COMMANDS = sorted(tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["scripts"])


def prose(path: Path) -> str:
    """A document without its code blocks."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"^ {4}.*$", "", text, flags=re.MULTILINE)


def anchors(path: Path) -> set[str]:
    """The anchors that a document's headings give, as hosts of repositories make them."""
    headings = re.findall(r"^#+ +(.+)$", prose(path), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def quoted(text: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", text)


def in_folders(names: list[str]) -> list[Path]:
    """Paths of a table's cell: a name without a folder is in the folder of the path before it."""
    paths, folder = [], Path()
    for number, name in enumerate(names):
        if name.endswith("/"):
            folder = Path(name)
            if all("/" in later for later in names[number + 1 : number + 2]):
                paths.append(folder)
            continue
        path = Path(name if name.endswith(".py") else f"{name}.py")
        folder = path.parent if "/" in name else folder
        paths.append(folder / path.name)
    return paths


def sources(*folders: str) -> list[Path]:
    """Every Python file of these folders, from the repository's root."""
    return sorted(
        path.relative_to(REPOSITORY) for name in folders for path in (REPOSITORY / name).rglob("*.py")
    )


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


def test_the_architecture_names_every_file() -> None:
    rooms = ARCHITECTURE.partition("\n## The rooms\n")[2].partition("\n## The walk of a live frame\n")[0]
    files = [
        path for path in sources("models", "stream", "offline", "affectstream") if path.name != "__init__.py"
    ]
    assert files
    assert [path for path in files if not {path.name, path.stem} & set(quoted(rooms))] == []


def test_every_module_has_a_test_of_its_name_or_is_said_to_be_covered_by_another() -> None:
    rows = re.findall(
        r"^\| (`.+) \| (.+) \|$", ARCHITECTURE.partition(f"\n{COVERED}\n")[2], flags=re.MULTILINE
    )
    assert rows
    covered = {path for module, _ in rows for path in in_folders(quoted(module))}
    own = {
        path
        for path in sources("models", "stream", "offline", "affectstream", "benchmarks")
        if (REPOSITORY / "tests" / path.parent / f"test_{path.name}").is_file()
    }
    others = set(sources("models", "stream", "offline", "affectstream", "benchmarks")) - own
    assert covered == {path for path in others if path.name != "__init__.py"}
    for _, tests in rows:
        for name in in_folders(quoted(tests)):
            assert (REPOSITORY / "tests" / name).exists(), name
