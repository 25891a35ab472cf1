"""The results file: what was run again takes its section's place, and no other goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.__main__ import RESULTS, read_sections, write_sections

if TYPE_CHECKING:
    from pathlib import Path


def test_sections_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "RESULTS.md"
    assert read_sections(path) == {}
    sections = {
        "peak": "## Peak\n\n| a |\n|---|\n| 1 |",
        "naive": "## This engine\n\nremark <!-- not a mark -->",
    }
    write_sections(path, sections)
    assert read_sections(path) == sections
    write_sections(path, sections | {"peak": "## Peak\n\nagain"})
    assert read_sections(path) == sections | {"peak": "## Peak\n\nagain"}
    assert path.read_text().startswith("# Benchmarks\n")


def test_what_is_kept_says_how_and_when_it_was_made() -> None:
    for name, section in read_sections(RESULTS).items():
        title, empty, made_by = section.splitlines()[:3]
        assert title.startswith("## "), name
        assert not empty
        assert made_by.startswith("`python -m benchmarks"), name
        assert " processors" in made_by, name
