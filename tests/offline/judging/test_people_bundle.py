"""The shipped bundle for real people, on a small sample of what it never saw.

The card has the figures on everything. Here wide margins hold that the bundle which is shipped is the one that was
judged, and that the live path still shows it what it learned from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from models.bundle.shipped import shipped_bundles
from offline.judging.judge import judge
from offline.judging.live_path import JudgeOptions
from offline.judging.material import read_clips, read_faces, read_talking, read_texts, read_voices
from stream.options import DEFAULT_BUNDLE

if TYPE_CHECKING:
    from pathlib import Path

    from models.spec import Target
    from offline.judging.material import Material
    from offline.judging.scoring import Judgement

OPTIONS = JudgeOptions(DEFAULT_BUNDLE, detector="haar", recogniser="none")

pytestmark = pytest.mark.slow


def judged(material: Material) -> Judgement:
    return judge(material, OPTIONS, 1, lambda done: None)


def agreement(judgement: Judgement, measure: str, reading: str = "centered") -> dict[Target, float]:
    """By target, over the items in which something was found where some were not."""
    found: dict[Target, float] = {}
    for score in judgement.scores:
        if score.reading == reading:
            found.setdefault(score.target, getattr(score.agreement, measure))
    return found


def test_it_is_shipped() -> None:
    assert DEFAULT_BUNDLE in shipped_bundles()


@pytest.mark.parametrize("reading", ["centered", "folds' mean"])
def test_faces_never_seen_are_read_as_people_read_them(people: Path, reading: str) -> None:
    found = judged(read_faces(people / "ferplus-validation.npz", 80))
    assert found.present >= 60
    ccc = agreement(found, "ccc", reading)
    assert ccc["valence"] > 0.7
    assert ccc["arousal"] > 0.6


def test_a_voice_never_heard_tells_how_excited_it_is(people: Path) -> None:
    found = judged(read_voices(people / "emodb", None, ["09"]))
    assert agreement(found, "ccc")["arousal"] > 0.5


def test_words_tell_how_pleasant_they_are(people: Path) -> None:
    found = judged(read_texts(people / "emobank-dev.csv", 150))
    assert agreement(found, "pearson")["valence"] > 0.3


def test_happiness_anger_and_rest_are_in_peoples_order(people: Path, fixtures: Path) -> None:
    found = judged(read_clips(fixtures / "clips", people / "cremad-fixture-votes.csv", None))
    valence = {
        name.split("_")[2]: e.centered[0]
        for name, e in zip(found.material.names, found.estimates, strict=True)
    }
    assert valence["HAP"] > valence["NEU"] > valence["ANG"]


def test_somebody_who_talks_and_shows_nothing_is_near_rest(fixtures: Path) -> None:
    found = judged(read_talking([fixtures / "clips" / "bbaf2n.mpg", fixtures / "clips" / "swiz3n.mpg"], None))
    for estimate in found.estimates:
        assert abs(estimate.centered[0]) < 0.35
        assert estimate.centered[1] < 0.45
