"""Tables of a bundle: the numbers are those of its manifest, and of the constants that are at work."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from models.bundle.size import count_parameters
from models.spec import TARGETS, Target
from models.spread import SpreadCalibration
from offline.cards.bundle_tables import (
    NOT_CALIBRATED,
    composition_table,
    emotion_table,
    facts_table,
    folds_table,
    provenance_table,
    recipe_table,
    spread_table,
)
from offline.composer.perceived import WEIGHTS
from offline.people.emotions import EMOTIONS

if TYPE_CHECKING:
    from pathlib import Path

    from models.bundle.load import Bundle


def test_facts_and_recipe_are_the_manifests(people: Bundle) -> None:
    manifest = people.manifest
    said = facts_table(manifest, count_parameters(manifest), 1.25)
    assert f"| content | sha256 {manifest.content_hash} |" in said
    assert "| preset | practical |" in said
    assert "| folds | 2 |" in said
    assert "| trained | no |" in said
    assert "| on disk | 1.2 MB |" in said
    recipe = recipe_table(manifest)
    assert "| face | 48 x 48, grey, framed by box; 40 x 40 of it are seen |" in recipe
    assert "| audio encoder | untrained-vggish (in the bundle) |" in recipe


def test_folds_have_their_validation_ccc(people: Bundle) -> None:
    reached = people.manifest.folds[0].model_copy(
        update={"validation_ccc": {"valence": 0.5, "arousal": 0.25}}
    )
    manifest = people.manifest.model_copy(update={"folds": (reached, people.manifest.folds[1])})
    assert folds_table(manifest).splitlines()[2:] == ["| 0 | 0.500 | 0.250 |", "| 1 | none | none |"]


def test_a_calibrated_spread_is_shown_as_the_error_to_expect(people: Bundle) -> None:
    assert spread_table(people.manifest) == NOT_CALIBRATED
    floor: dict[str, dict[Target, float]] = {
        "nothing": dict.fromkeys(TARGETS, 0.16),
        "face+voice": {"valence": 0.04, "arousal": 0.09},
    }
    calibration = SpreadCalibration(scale={"valence": 4.0, "arousal": 0.0}, floor=floor)
    said = spread_table(people.manifest.model_copy(update={"spread": calibration}))
    assert "| nothing | valence | 0.40 | 0.41 | 0.45 | 0.57 | 0.72 |" in said
    assert "| face, voice | valence | 0.20 | 0.22 | 0.28 | 0.45 | 0.63 |" in said
    assert "| face, voice | arousal | 0.30 | 0.30 | 0.30 | 0.30 | 0.30 |" in said
    assert "factor valence 4.00, arousal 0.00" in said


def test_the_map_and_the_composition_are_those_in_use() -> None:
    said = emotion_table()
    for name, place in EMOTIONS.items():
        assert f"| {name} | {place.valence:+.2f} | {place.arousal:+.2f} | {place.reason} |" in said
    composed = composition_table()
    for channel, (valence, arousal) in WEIGHTS.items():
        assert f"| {channel} | {valence:g} | {arousal:g} |" in composed


def test_provenance_is_flat_short_and_without_folders(folder: Path, people: Bundle) -> None:
    told = {
        "store": "/home/me/store",
        "options": json.dumps({"schedule": {"epochs": 12}, "rate": 0.1 + 0.2, "targets": ["a", "b"]}),
        "long": "x" * 500,
    }
    encoder = {"data": "GoEmotions", "epochs": [{"epoch": 1}, {"epoch": 2, "r": [0.5, 0.25]}]}
    (folder / "text" / "provenance.json").write_text(json.dumps(encoder))
    said = provenance_table(people.manifest.model_copy(update={"provenance": told}), folder)
    for row in (
        "| store | store |",
        "| options.schedule.epochs | 12 |",
        "| options.rate | 0.3 |",
        "| options.targets | a, b |",
        f"| long | {'x' * 200}... |",
        "| text encoder.data | GoEmotions |",
        "| text encoder.epochs.2.r | 0.5, 0.25 |",
    ):
        assert row in said
