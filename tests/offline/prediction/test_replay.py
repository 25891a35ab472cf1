"""A recording through the live engine or its extractors is predicted as `stream-run` would estimate it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from models.bundle.manifest import PartUse
from models.files import file_hash
from models.spec import TARGETS
from models.visual.detectors import HaarDetector
from offline.data.aff_wild2 import SourceTrial
from offline.data.extractors import Extractors
from offline.data.preprocess import prepare_store, preprocess_trial
from offline.data.recipe import DISTRIBUTED, PartChoices, choose_parts
from offline.prediction.replay import feature_mismatches
from stream.broker.connection import run as run_async
from stream.options import InputOptions, OutputOptions
from stream.session import stream

if TYPE_CHECKING:
    from pathlib import Path

    from models.bundle.load import Bundle
    from stream.build import LoadedParts
    from tests.commands import RunCommand


CLIP = "pwij3p.mpg"


Command = Callable[..., str]


@pytest.fixture
def command(run_command: RunCommand) -> Command:
    """Runs `offline-predict` in this process; gives what it printed, or its one line of refusal."""
    return lambda *arguments: run_command("offline-predict", *arguments, "--threads", "1").said


def recording(frame_rate: float = 29.97) -> SimpleNamespace:
    return SimpleNamespace(info=SimpleNamespace(frame_rate=frame_rate))


def test_another_frame_rate_than_the_bundles_is_named(bundle: Bundle) -> None:
    def parts(frame_rate: float) -> LoadedParts:
        return SimpleNamespace(  # type: ignore[return-value]
            bundle=bundle, detector=HaarDetector(), new_recogniser=None, source=recording(frame_rate)
        )

    assert feature_mismatches(parts(30.01)) == []
    (note,) = feature_mismatches(parts(25))
    assert "25 frames a second, but the bundle was trained at 30" in note


def test_crops_that_no_recording_brings_are_not_asked_for(bundle: Bundle) -> None:
    recipe = bundle.manifest.recipe.model_copy(update={"detector": PartUse(name=DISTRIBUTED)})
    trained = replace(bundle, manifest=bundle.manifest.model_copy(update={"recipe": recipe}))
    parts = SimpleNamespace(bundle=trained, detector=HaarDetector(), new_recogniser=None, source=recording())
    (note,) = feature_mismatches(parts)  # type: ignore[arg-type]
    assert "trained on features of distributed-crops: no recording brings them" in note


def test_other_parts_than_the_bundles_are_named(bundle: Bundle) -> None:
    """A recording's features, made by what is installed here, may be of another kind than those trained on."""

    def parts(detector: str, recogniser: str) -> LoadedParts:
        named = SimpleNamespace(name=recogniser)
        return SimpleNamespace(  # type: ignore[return-value]
            bundle=bundle,
            detector=SimpleNamespace(name=detector),
            recogniser=named,
            new_recogniser=object(),
            source=recording(),
        )

    assert feature_mismatches(parts("haar", "vosk-tiny")) == []
    found = feature_mismatches(parts("yunet", "vosk-model-small-en-us-0.15"))
    assert [note.rpartition("give ")[2] for note in found] == ["--detector haar", "--recogniser vosk-tiny"]


def test_another_version_of_the_bundles_detector_is_named(bundle: Bundle) -> None:
    recipe = bundle.manifest.recipe

    def parts(sha256: str | None) -> LoadedParts:
        use = PartUse(name="haar", sha256=sha256)
        manifest = bundle.manifest.model_copy(update={"recipe": recipe.model_copy(update={"detector": use})})
        return SimpleNamespace(  # type: ignore[return-value]
            bundle=replace(bundle, manifest=manifest),
            detector=HaarDetector(),
            new_recogniser=None,
            source=recording(),
        )

    assert feature_mismatches(parts(None)) == []
    assert feature_mismatches(parts(HaarDetector.sha256())) == []
    (note,) = feature_mismatches(parts("0" * 64))
    assert "another version of the detector haar" in note


class TestRecording:
    """Promise 3: settled estimates of a replayed file are what `offline-predict` gives, from file and from store."""

    @pytest.fixture(scope="class")
    @staticmethod
    def recorded(
        fixtures: Path, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory
    ) -> list[dict[str, Any]]:
        """What `stream-run --record` writes."""
        record = tmp_path_factory.mktemp("record") / "out.jsonl"
        choices = InputOptions(
            source=str(fixtures / "clips" / CLIP),
            bundle=str(bundle.folder),
            pace="fast",
            detector="haar",
            recogniser="vosk-tiny",
            threads=1,
        )
        run_async(stream(choices, OutputOptions(record=record, view="none")))
        lines = [json.loads(line) for line in record.read_text().splitlines()]
        assert sum(line["present"]["words"] for line in lines) > 5, "words were heard"
        assert sum(line["present"]["face"] for line in lines) > 60, "a face was seen"
        return lines

    def assert_same(self, rows: list[dict[str, str]], recorded: list[dict[str, Any]]) -> None:
        assert len(rows) == len(recorded) == 75

        def column(name: str) -> np.ndarray:
            return np.array([float(row[name]) for row in rows])

        for k, target in enumerate(TARGETS):
            assert np.allclose(column(target), [r[target] for r in recorded], atol=1e-4)
            assert np.allclose(column(f"spread_{target}"), [r["spread"][target] for r in recorded], atol=1e-4)
            for f in range(3):
                own = np.clip([r["folds"][f][k] for r in recorded], -1, 1)
                assert np.allclose(column(f"fold_{f}_{target}"), own, atol=1e-4)
        assert np.allclose(column("time_s"), [r["time_s"] for r in recorded], atol=1e-6)

    def test_from_the_file(
        self,
        fixtures: Path,
        bundle: Bundle,
        recorded: list[dict[str, Any]],
        command: Command,
        tmp_path: Path,
    ) -> None:
        source = fixtures / "clips" / CLIP
        options = ("--detector", "haar", "--recogniser", "vosk-tiny")
        command(bundle.folder, source, *options, "--out", tmp_path / "plain")
        labels = tmp_path / "labels.txt"
        labels.write_text("valence,arousal\n" + "0.1,0.2\n-5,-5\n0.3,-0.2\n" * 25)
        said = command(
            bundle.folder, source, *options, "--out", tmp_path / "both", "--context", "both", "--labels", labels,
            "--ablate", "language",
        )  # fmt: skip
        for folder in ("plain", "both"):
            text = (tmp_path / folder / "stream" / "pwij3p.csv").read_text()
            self.assert_same(list(csv.DictReader(text.splitlines())), recorded)
        assert "pwij3p: 1 trial, 75 frames, 50 labelled" in said
        assert "but the bundle was trained" not in said
        assert "no language" in said
        assert (tmp_path / "both" / "windows" / "pwij3p.csv").is_file()

    def test_labels_of_another_recording_are_refused_without_an_option_that_is_not_there(
        self, fixtures: Path, bundle: Bundle, command: Command, tmp_path: Path
    ) -> None:
        labels = tmp_path / "labels.txt"
        labels.write_text("valence,arousal\n" + "0.1,0.2\n" * 200)
        source = fixtures / "clips" / "weekly_address_5s.mp4"
        options = ("--detector", "haar", "--recogniser", "vosk-tiny")
        said = command(bundle.folder, source, *options, "--labels", labels)
        assert "weekly_address_5s.mp4 has 147 frames but 200 labels" in said
        assert "(30 frames more or fewer are taken)" in said
        assert "--tolerance" not in said

    def test_from_a_store_of_the_file(
        self,
        fixtures: Path,
        bundle: Bundle,
        recorded: list[dict[str, Any]],
        command: Command,
        tmp_path: Path,
    ) -> None:
        video = fixtures / "clips" / CLIP
        choices = PartChoices(detector="haar", recogniser="vosk-tiny", text_encoder=f"bundle:{bundle.folder}")
        parts = choose_parts(choices, tmp_path)
        prepare_store(tmp_path / "store", parts)
        trial = SourceTrial("pwij3p", "test", "pwij3p", video)
        preprocess_trial(trial, tmp_path / "store", Extractors.load(parts))
        before = file_hash(tmp_path / "store" / "store.json")
        command(bundle.folder, tmp_path / "store", "--partition", "test", "--out", tmp_path / "out")
        text = (tmp_path / "out" / "stream" / "pwij3p.csv").read_text()
        self.assert_same(list(csv.DictReader(text.splitlines())), recorded)
        assert file_hash(tmp_path / "store" / "store.json") == before
