"""A live run's first three lines: what it uses, what is missing and its command, what the bundle is good for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from models.bundle.load import load_bundle
from models.speech.recogniser import TINY_FOLDER, RecogniserChoice, find_recogniser
from models.visual.patient_haar import PatientHaarDetector
from stream.build import load
from stream.description import first_lines, missing_parts
from stream.messages import InputStatus
from stream.options import InputOptions
from tests.commands import run_in_own_process
from tests.stream.scripted import ScriptedSource, clip

if TYPE_CHECKING:
    from pathlib import Path

    from models.bundle.load import Bundle

LIVE = "lavfi:testsrc2=size=64x48:rate=30:duration=0.5,realtime"
NOT_INSTALLED = find_recogniser("auto", lambda name: None)
NO_WORDS = InputStatus("off", NOT_INSTALLED.reason, NOT_INSTALLED.way_out)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFECT_MODELS", str(tmp_path / "models"))


@pytest.fixture(scope="module")
def demo() -> Bundle:
    return load_bundle("demo")


def boxed(bundle: Bundle) -> Bundle:
    """The bundle as if it took the same crop from any detector."""
    recipe = bundle.manifest.recipe
    crop = recipe.crop.model_copy(update={"framing": "box"})
    manifest = bundle.manifest.model_copy(update={"recipe": recipe.model_copy(update={"crop": crop})})
    return replace(bundle, manifest=manifest)


def test_all_that_is_missing_is_one_command(demo: Bundle) -> None:
    source = ScriptedSource(list(clip(3)))
    bundle, detector = boxed(demo), PatientHaarDetector()
    missing = missing_parts(bundle, "auto", detector, NOT_INSTALLED, has_sound=True)
    uses, lacks, good_for = first_lines(
        source, {"recogniser": NO_WORDS}, bundle, detector, "eager", missing=missing
    )
    assert uses.startswith(f"uses {source.info.name}")
    assert "computed by eager" in uses
    assert lacks == "missing for turned and dark faces, words: models-pull recommended"
    assert good_for.startswith("good for: trained on performed people")


def test_nothing_is_missing_where_all_is_there(demo: Bundle) -> None:
    inputs = {"recogniser": InputStatus("ok", "vosk-tiny")}
    detector, named = PatientHaarDetector(), RecogniserChoice("vosk-tiny", TINY_FOLDER)
    missing = missing_parts(demo, "auto", detector, named, has_sound=True)
    uses, lacks, _ = first_lines(
        ScriptedSource(list(clip(3))), inputs, demo, detector, "eager", missing=missing
    )
    assert "words: vosk-tiny" in uses
    assert lacks == "nothing is missing"


def test_what_is_not_asked_for_is_not_missing(demo: Bundle) -> None:
    bundle, detector = boxed(demo), PatientHaarDetector()
    switched_off = find_recogniser("none", lambda name: None)
    assert missing_parts(bundle, "haar", detector, switched_off, has_sound=True) == {}
    assert missing_parts(bundle, "haar", detector, NOT_INSTALLED, has_sound=False) == {}


def test_a_detector_that_is_named_lacks_no_other() -> None:
    asked = InputOptions(LIVE, bundle="people", detector="haar", recogniser="none", microphone="none")
    parts = load(asked)
    parts.source.close()
    assert "yunet" not in parts.first_lines()[1]
    parts = load(replace(asked, detector="auto"))
    parts.source.close()
    assert "turned and dark faces" in parts.first_lines()[1]


def test_loaded_parts_say_their_own() -> None:
    parts = load(InputOptions(LIVE, bundle="demo", microphone="none"))
    parts.source.close()
    uses, lacks, _ = parts.first_lines()
    assert "(64x48), without sound; faces: haar; words: none; bundle: demo, computed by eager" in uses
    assert lacks == "nothing is missing"


@pytest.mark.slow
def test_a_live_run_begins_with_them_and_a_recording_does_not(tmp_path: Path) -> None:
    common = ["--bundle", "demo", "--recogniser", "none", "--accelerator", "eager", "--view", "plain"]
    live = run_in_own_process("stream-run", LIVE, "--microphone", "none", *common)
    assert live.returncode == 0, live.stderr
    said = [line.removeprefix("stream-run: ").split()[0] for line in live.stderr.splitlines()]
    assert said == ["uses", "nothing", "good"]
    assert "uses" not in live.stdout
    quiet = run_in_own_process("stream-run", LIVE, "--microphone", "none", *common[:-1], "none")
    assert quiet.stderr == ""
