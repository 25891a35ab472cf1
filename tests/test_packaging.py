"""What the package says of itself holds: the extras that messages and documents name are there to be installed."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
FOLDERS = ("models", "stream", "offline", "affectstream", "benchmarks", "examples", "tests")


def named_extras() -> dict[str, str]:
    """Every extra that a source, a document or the Makefile names, and one place that does."""
    sources = [path for folder in FOLDERS for path in sorted((REPOSITORY / folder).rglob("*.py"))]
    documents = [*sorted(REPOSITORY.glob("*.md")), *sorted((REPOSITORY / "docs").glob("*.md"))]
    paths = [*sources, *documents, REPOSITORY / "Makefile", REPOSITORY / "pyproject.toml"]
    return {
        extra: str(path.relative_to(REPOSITORY))
        for path in paths
        for listed in re.findall(r"affectstream\[([\w, -]+)\]", path.read_text(encoding="utf-8"))
        for extra in re.split(r"\s*,\s*", listed)
    }


@pytest.mark.parametrize(("extra", "place"), sorted(named_extras().items()))
def test_every_extra_that_is_named_can_be_installed(extra: str, place: str) -> None:
    assert extra in PROJECT["optional-dependencies"], f"{place} names it"


def test_what_training_and_reports_ask_for_is_in_their_extra() -> None:
    listed = [re.split(r"[>=<]", line)[0] for line in PROJECT["optional-dependencies"]["train"]]
    assert {"matplotlib", "tensorboard"} <= set(listed)
