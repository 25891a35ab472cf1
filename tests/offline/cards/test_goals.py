"""Goals beside what was measured: kept where it was reached, missed where it was not, never left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from offline.cards.document import collect, read_document
from offline.cards.goals import goals_table
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


def test_those_at_rest_are_counted_among_all_that_were_judged(people: Bundle, tmp_path: Path) -> None:
    found = rows(write_judgement(tmp_path / "j.json", people, judged("talking", items=40)))
    for row in found:
        assert " of 39 with a face or voice, of 40 judged; not item-" in row[2]
        assert row[2].count("item-") == 6, "a bounded row"
        assert row[2].endswith(" more")


def test_nobody_found_is_a_goal_missed(people: Bundle, tmp_path: Path) -> None:
    found = rows(write_judgement(tmp_path / "j.json", people, judged("talking", items=7, found=False)))
    assert [row[2:] for row in found] == [["0 of 0 with a face or voice, of 7 judged", "**missed**"]] * 2


@pytest.mark.parametrize(("error", "outcome"), [(0.0, "kept"), (0.9, "**missed**")])
def test_strong_votes_are_a_row_for_each_side(
    people: Bundle, tmp_path: Path, error: float, outcome: str
) -> None:
    found = rows(write_judgement(tmp_path / "j.json", people, judged("clips", error=error, by="both")))
    strong = [row for row in found if "voted strongly" in row[1]]
    assert [row[1] for row in strong] == [
        "valence of each that is voted strongly unpleasant at most -0.25",
        "valence of each that is voted strongly pleasant at least +0.35",
    ]
    for row in strong:
        assert row[3] == outcome
        assert row[2].split(";")[0].endswith(", of 40 judged")
        kept, of, judged_strongly = row[2].split(",")[0].split()
        assert of == "of"
        assert (kept == judged_strongly) == (outcome == "kept")
        assert row[2].count("item-") <= 6


def test_spreads_that_are_all_alike_miss_their_goal(people: Bundle, tmp_path: Path) -> None:
    found = rows(write_judgement(tmp_path / "j.json", people, judged("voices", alike=True)))
    spread = [row for row in found if "widest fifth" in row[1]]
    assert {row[1].split(":")[0] for row in spread} == {"valence", "arousal"}
    assert {(row[2].split(", ")[0], row[3]) for row in spread} == {("all spreads alike", "**missed**")}


def test_a_narrowest_fifth_without_error_is_told_and_too_few_items_are_not(
    people: Bundle, tmp_path: Path
) -> None:
    found = rows(write_judgement(tmp_path / "j.json", people, judged("voices", error=0.0)))
    spread = [row for row in found if "widest fifth" in row[1]]
    assert spread
    for row in spread:
        assert row[2].startswith("the narrowest errs nothing, the widest 0.000, ")
    few = rows(write_judgement(tmp_path / "few.json", people, judged("voices", items=4)))
    assert not [row for row in few if "widest fifth" in row[1]]


def test_nothing_judged_is_nothing_reached() -> None:
    assert "No judgement" in goals_table([])
