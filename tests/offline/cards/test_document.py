"""Documents of judgements read back: strictly, as what the scores are made of, and named by what was judged."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from models.errors import UserError
from offline.cards.document import collect, read_document
from tests.offline.cards.made import judged, write_judgement

if TYPE_CHECKING:
    from pathlib import Path

    from models.bundle.load import Bundle


def test_scores_and_means_are_what_was_written(people: Bundle, tmp_path: Path) -> None:
    judgement = judged("faces")
    (read,) = read_document(write_judgement(tmp_path / "j.json", people, judgement)).judgements
    assert read.scores == judgement.scores
    assert read.categories == judgement.categories
    assert (read.items, read.present) == (40, 39)


def test_a_row_is_named_by_all_that_decides_what_was_judged(people: Bundle, tmp_path: Path) -> None:
    kinds = (
        *(judged("faces"), judged("faces", available=80)),
        *(judged("voices"), judged("voices", available=90), judged("texts", available=41)),
        *(judged("talking", items=1), judged("talking", items=3), judged("talking", items=6, available=7)),
    )
    document = read_document(write_judgement(tmp_path / "j.json", people, *kinds))
    assert [one.material for one in collect([document])] == [
        "faces.npz, faces by haar",
        "faces.npz, 40 of 80, faces by haar",
        "voices.npz, speakers 09 alone",
        "voices.npz, speakers 09 alone, 40 of 90",
        "texts.npz, 40 of 41",
        "item-0, faces by haar",
        "item-0, item-1, item-2, faces by haar",
        "item-0 and 5 more, 6 of 7, faces by haar",
    ]


def test_what_is_no_document_is_one_line(people: Bundle, tmp_path: Path) -> None:
    path = write_judgement(tmp_path / "all.json", people, judged())
    content = json.loads(path.read_text())
    content["judgements"][0]["scores"][0]["agreement"]["ccc"] = "good"
    path.write_text(json.dumps(content))
    content["judgements"][0]["scores"][0]["agreement"]["ccc"] = float("nan")
    (tmp_path / "nan.json").write_text(json.dumps(content))
    (tmp_path / "other.json").write_text("{}")
    ccc = "judgements.0.scores.0.agreement.ccc"
    for name, place in (("all.json", ccc), ("nan.json", ccc), ("other.json", "command")):
        with pytest.raises(UserError, match=f"no document of offline-judge --json: {place}: ") as refused:
            read_document(tmp_path / name)
        assert "\n" not in str(refused.value)
        assert str(refused.value).endswith("with offline-judge --json, or give another file")
    with pytest.raises(UserError, match="does not exist"):
        read_document(tmp_path / "absent.json")
