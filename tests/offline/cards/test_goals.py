"""Goals beside what was measured: kept where it was reached, missed where it was not, never left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from offline.cards.goals import goals_table
from offline.cards.judgements import collect, read_document
from tests.offline.cards.made import judged, write_judgement

if TYPE_CHECKING:
    from pathlib import Path

    from models.bundle.load import Bundle


def rows(path: Path) -> list[list[str]]:
    lines = goals_table(collect([read_document(path)])).splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.parametrize(("error", "outcome"), [(0.01, "kept"), (0.9, "**missed**")])
def test_a_score_is_kept_where_it_is_reached(
    people: Bundle, tmp_path: Path, error: float, outcome: str
) -> None:
    found = rows(write_judgement(tmp_path / "j.json", people, judged("faces", error=error)))
    published = [
        row for row in found if row[1].startswith("CCC") and row[2].split(", ")[1].startswith("published")
    ]
    assert {row[1] for row in published} == {"CCC valence at least 0.88", "CCC arousal at least 0.85"}
    assert {row[3] for row in published} == {outcome}
    assert {row[2].split(" ")[-1] for row in published} <= {"found", "items"}


def test_centered_or_not_both_are_stated(people: Bundle, tmp_path: Path) -> None:
    found = rows(write_judgement(tmp_path / "j.json", people, judged("voices")))
    for reading in ("published (centered)", "folds' mean, not centered"):
        assert any(reading in row[2] for row in found)


def test_somebody_at_rest_who_is_far_from_neutral_is_named(people: Bundle, tmp_path: Path) -> None:
    found = rows(write_judgement(tmp_path / "j.json", people, judged("talking", items=12)))
    assert {row[1] for row in found} == {
        "mean valence of each within 0.20",
        "mean arousal of each below 0.30",
    }
    assert {row[3] for row in found} == {"**missed**"}
    assert all("item-" in row[2] for row in found)


def test_nothing_judged_is_nothing_reached() -> None:
    assert "No judgement" in goals_table([])
