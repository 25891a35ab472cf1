"""Bundle and parts: what is sound is said, what is missing or damaged is named with the command that installs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from models.bundle.load import load_bundle
from models.parts.install import pull
from stream.doctor.parts import examine_parts, examine_recogniser, judge_bundle

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AFFECT_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def test_the_demo_bundle_is_sound_and_says_what_it_is_good_for() -> None:
    (found,) = judge_bundle(load_bundle("demo"))
    assert found.state == "ok"
    assert "6 folds, all files sound: trained on performed people" in found.says


def test_without_yunet_faces_are_found_by_haar() -> None:
    detector, parts = examine_parts("auto")
    assert (detector.state, detector.mend) == ("warning", "models-pull yunet")
    assert parts.says == "installed and sound: vosk-tiny"
    assert examine_parts("haar")[0].state == "ok"
    assert examine_parts("yunet")[0].state == "failed"


def test_an_installed_part_serves_and_a_damaged_one_is_named(fixtures: Path) -> None:
    installed = pull("yunet", source=fixtures / "face")
    assert examine_parts("auto")[0].says.startswith("yunet")
    installed.path.write_bytes(b"altered")
    found = examine_parts("auto")[0]
    assert found.state == "failed"
    assert found.mend == "models-pull yunet"


def test_recognisers() -> None:
    assert examine_recogniser("vosk-tiny", None).says == "vosk-tiny"
    assert examine_recogniser("none", None).says == "switched off"
    none_installed = examine_recogniser("auto", None)
    assert none_installed.state == "warning"
    assert none_installed.mend == "models-pull vosk-model-small-en-us-0.15"
    unknown = examine_recogniser("nobody", None)
    assert unknown.state == "failed"
    assert unknown.mend
