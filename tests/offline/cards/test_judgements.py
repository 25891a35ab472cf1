"""Judgements as tables: the numbers are those of the document."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from offline.cards.document import collect, read_document
from offline.cards.judgements import (
    NOTHING_JUDGED,
    commands,
    coverage,
    details,
    metadata,
    reach,
    summary,
)
from tests.offline.cards.made import judged, write_judgement

if TYPE_CHECKING:
    from pathlib import Path

    from models.bundle.load import Bundle
    from offline.cards.document import Document


@pytest.fixture
def document(people: Bundle, tmp_path: Path) -> Document:
    """Faces, voices, and people who talk."""
    kinds = (
        judged("faces", available=80),
        judged("voices", items=12, available=24),
        judged("talking", items=5),
    )
    return read_document(write_judgement(tmp_path / "all.json", people, *kinds))


def cells(text: str, *starts: str) -> list[str]:
    """The first row of a table that begins with these cells, the rest of it."""
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines()]
    return next(row[len(starts) :] for row in rows if tuple(row[: len(starts)]) == starts)


def test_the_summary_is_of_what_is_published_where_something_was_found(document: Document) -> None:
    said = summary(collect([document]))
    scores = [s for s in document.judgements[0].scores if (s.reading, s.subset) == ("centered", "present")]
    assert [s.target for s in scores] == ["valence", "arousal"]
    expected = [f"{getattr(s.agreement, m):.3f}" for m in ("ccc", "pearson", "rmse") for s in scores]
    starts = (
        "faces, each still for two seconds; sight alone",
        "faces.npz, 40 of 80, faces by haar, against votes",
    )
    assert cells(said, *starts) == ["39", *expected]
    assert (
        cells(said, "voices; sound alone", "voices.npz, speakers 09 alone, 12 of 24, against votes")[0]
        == "11"
    )
    assert "talk" not in said, "nothing is labelled there"


def test_details_have_every_score_both_ways_the_fifths_and_the_command(document: Document) -> None:
    said = details(collect([document]))
    assert "### Faces, each still for two seconds; sight alone: faces.npz, 40 of 80, faces by haar" in said
    assert "40 items, evenly spread over 80; face found: 39. read from data with care." in said
    for score in document.judgements[0].scores:
        named = "published (centered)" if score.reading == "centered" else "folds' mean, not centered"
        found = f"{score.agreement.items} {'found' if score.subset == 'present' else 'all'}"
        a = score.agreement
        expected = [f"{value:.3f}" for value in (a.ccc, a.pearson, a.mae, a.rmse)]
        assert cells(said, named, "votes", found, score.target) == expected
    groups = document.judgements[0].scores[0].groups
    assert groups is not None
    assert groups.ratio is not None
    fifths = [f"{value:.3f}" for value in groups.rmse]
    assert cells(said, "published (centered)", "votes", "valence", "RMSE") == [*fifths, f"{groups.ratio:.2f}"]
    deviation = document.judgements[2].largest_deviation
    assert deviation is not None
    assert f"Furthest from zero: {deviation.target} {deviation.value:+.3f} ({deviation.name})" in said
    assert "offline-judge people --faces faces.npz --json=all.json" in said
    assert "/home" not in said


def test_reach_is_the_range_of_estimates_beside_the_labels_and_the_means_by_emotion(
    document: Document,
) -> None:
    said = reach(collect([document]))
    anger = next(c for c in document.judgements[0].categories if c.name == "anger")
    pairs = [", ".join(f"{v:+.2f}" for v in p) for p in (anger.label, anger.centered, anger.folds_mean)]
    assert cells(said, "anger") == [str(anger.items), *pairs]
    labels, published, mean = cells(said, "faces.npz, 40 of 80, faces by haar, against votes", "valence")
    low, high = (float(bound) for bound in labels.split(" to "))
    assert -0.8 <= low < -0.5
    assert 0.5 < high <= 0.8
    assert float(published.split(" to ")[0]) == pytest.approx(2 * float(mean.split(" to ")[0]), abs=0.02)


def test_coverage_counts_errors_within_one_and_two_spreads(document: Document) -> None:
    """Every error is 0.1; spreads go from 0.05 to 0.15 evenly: a half is within one, all are within two."""
    said = coverage(collect([document]))
    items, spread, rmse, within_one, within_two = cells(
        said, "faces.npz, 40 of 80, faces by haar, against votes", "arousal"
    )
    assert (items, rmse, within_two) == ("39", "0.100", "100%")
    assert float(spread) == pytest.approx(0.0988, abs=0.001)
    assert 45 <= int(within_one.rstrip("%")) <= 52
    assert "voices" not in said, "too few items"


def test_the_metadata_is_a_model_index(document: Document) -> None:
    said = metadata("people", collect([document]))
    assert said.startswith("model-index:\n  - name: people\n    results:\n      - task:")
    score = document.judgements[0].scores[0]
    assert f"{{type: ccc, name: 'CCC valence, against votes', value: {score.agreement.ccc:.3f}}}" in said
    assert "{type: faces, name: 'faces.npz, 40 of 80, faces by haar'}" in said
    assert "{type: voices, name: 'voices.npz, speakers 09 alone, 12 of 24'}" in said
    assert metadata("people", []) == ""


def test_commands_are_said_once_with_their_software(document: Document) -> None:
    said = commands([document, document])
    assert said.count("offline-judge") == 1
    assert f"torch {document.versions['torch']}" in said


def test_without_a_judgement_that_is_said() -> None:
    for tell in (summary, details, reach):
        assert tell([]) == NOTHING_JUDGED
    assert commands([]) == NOTHING_JUDGED
    assert "Too few" in coverage([])
