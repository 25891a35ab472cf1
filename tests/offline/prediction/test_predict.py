"""Whole-trial predictions: the two contexts by their definitions, equality with the live engine, and the command."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from models.bundle.load import Bundle, load_bundle
from models.bundle.manifest import FeatureRecipe, PartUse
from models.bundle.untrained import make_untrained_bundle
from models.centering import RunningCentering, center
from models.console import run as run_app
from models.files import file_hash
from models.spec import TARGETS, Modality, WindowSpec
from models.visual.alignment import network_input
from models.visual.detectors import HaarDetector
from offline.commands.predict import app
from offline.data.aff_wild2 import SourceTrial
from offline.data.extractors import Extractors
from offline.data.folds import FoldSplit, write_folds
from offline.data.preprocess import prepare_store, preprocess_trial
from offline.data.recipe import DISTRIBUTED, PartChoices, choose_parts
from offline.data.store import Store, TrialRecord, bundle_recipe
from offline.data.windows import Window, cut
from offline.metrics import score
from offline.prediction import predict
from offline.prediction.files import read_trial
from offline.prediction.predict import check_store, embed_trial, merge_folds, predict_trial, run_folds
from offline.prediction.replay import feature_mismatches
from stream.mqtt.connection import run as run_async
from stream.options import InputOptions, OutputOptions
from stream.session import stream
from tests.offline.trial_stores import Made, write_store

if TYPE_CHECKING:
    from pathlib import Path

    from stream.build import LoadedParts

SHORT = WindowSpec(length=16, hop=10)
CLIP = "pwij3p.mpg"

Command = Callable[..., str]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundles") / "random"
    make_untrained_bundle(folder, folds=3, seed=5)
    return load_bundle(folder)


@pytest.fixture(scope="module")
def store(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Store:
    trials = [
        Made("long", frames=45),
        Made("part", frames=30, labelled=0.5),
        Made("short", frames=9),
        Made("silent", "train", frames=20, has_sound=False),
        Made("other", "train", frames=20),
        Made("unseen", "test", frames=20, labelled=0.0),
    ]
    return write_store(tmp_path_factory.mktemp("stores") / "store", bundle_recipe(bundle.manifest), trials)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs `offline-predict` in this process; gives what it printed, or its one line of refusal."""

    def call(*arguments: object) -> str:
        monkeypatch.setattr("sys.argv", ["offline-predict", *map(str, arguments), "--threads", "1"])
        status: object = 0
        try:
            run_app(app)
        except SystemExit as ended:
            status = ended.code
        found = capsys.readouterr()
        if not status:
            return found.out
        assert status == 2
        assert found.err.count("\n") == 1, found.err
        return found.err

    return call


def folds_over(bundle: Bundle, trial: TrialRecord, part: Window) -> np.ndarray:
    """Every fold's outputs over one window from a fresh state, padded with zeros behind: (F, T, K)."""
    assert bundle.audio_encoder is not None
    crops = network_input(cut(trial.crops, part))  # type: ignore[arg-type]
    patches = cut(trial.patches(0, trial.frames), part)
    with torch.inference_mode():
        audio = bundle.audio_encoder(torch.from_numpy(np.array(patches)))
        language = torch.from_numpy(np.array(cut(trial.language, part)))
        values = bundle.ensemble(torch.from_numpy(crops)[None], audio[None], language[None])[:, 0]
        outputs: np.ndarray = values.double().numpy()
        return outputs


class TestStreamContext:
    def test_it_is_one_pass_and_running_centering(self, bundle: Bundle, store: Store) -> None:
        trial = store.trial("long")
        found = predict_trial(bundle, trial, embed_trial(bundle, trial), "stream")
        whole = folds_over(bundle, trial, Window(0, trial.frames, trial.frames))
        assert np.allclose(found.folds, whole, atol=1e-5)
        centering = RunningCentering(3, 300, 2)
        state = centering.initial_state()
        for t in range(trial.frames):
            state, frame = centering.step(state, whole[:, t].T)
            assert np.allclose(found.value[t], np.clip(frame.value, -1, 1), atol=1e-4)
            assert np.allclose(found.spread[t], frame.spread, atol=1e-4)
        assert np.array_equal(found.times, trial.times)
        assert np.array_equal(found.labels, trial.labels.astype(np.float64), equal_nan=True)

    @pytest.mark.parametrize("chunk", [1, 7, 44])
    def test_it_does_not_depend_on_chunks(
        self, bundle: Bundle, store: Store, monkeypatch: pytest.MonkeyPatch, chunk: int
    ) -> None:
        trial = store.trial("long")
        whole = predict_trial(bundle, trial, embed_trial(bundle, trial), "stream")
        monkeypatch.setattr(predict, "CHUNK_FRAMES", chunk)
        parts = predict_trial(bundle, trial, embed_trial(bundle, trial), "stream")
        assert np.allclose(parts.folds, whole.folds, atol=1e-5)

    def test_the_future_is_not_read(self, bundle: Bundle, store: Store) -> None:
        trial = store.trial("long")
        embedded = embed_trial(bundle, trial)
        cut_short = replace(embedded, embeddings={m: x[:, :, :20] for m, x in embedded.embeddings.items()})
        whole, part = (run_folds(bundle.ensemble, e, "stream", SHORT) for e in (embedded, cut_short))
        assert np.allclose(whole[:, :20], part, atol=1e-6)


class TestWindowsContext:
    def test_windows_are_averaged_and_the_whole_series_centered(self, bundle: Bundle, store: Store) -> None:
        trial = store.trial("long")
        found = predict_trial(bundle, trial, embed_trial(bundle, trial), "windows", SHORT)
        windows = [Window(s, s + 16, 16) for s in (0, 10, 20, 29)]
        total, count = np.zeros((3, 45, 2)), np.zeros((45, 1))
        for w in windows:
            total[:, w.start : w.stop] += folds_over(bundle, trial, w)
            count[w.start : w.stop] += 1
        assert np.allclose(found.folds, total / count, atol=1e-5)
        for k in range(2):
            expected = center(found.folds[:, :, k])
            assert np.allclose(found.value[:, k], np.clip(expected.merged, -1, 1))
            assert np.allclose(found.spread[:, k], expected.folds.std(axis=0))

    def test_a_short_trial_is_as_if_padded_with_zeros(self, bundle: Bundle, store: Store) -> None:
        trial = store.trial("short")
        found = predict_trial(bundle, trial, embed_trial(bundle, trial), "windows", SHORT)
        assert np.allclose(found.folds, folds_over(bundle, trial, Window(0, 9, 16))[:, :9], atol=1e-5)

    def test_the_contexts_differ_where_windows_begin_anew(self, bundle: Bundle, store: Store) -> None:
        embedded = embed_trial(bundle, store.trial("long"))
        folds = [run_folds(bundle.ensemble, embedded, c, SHORT) for c in ("stream", "windows")]
        assert np.allclose(folds[0][:, :10], folds[1][:, :10], atol=1e-5)
        assert np.abs(folds[0] - folds[1]).max() > 1e-3


def test_values_are_clipped_last() -> None:
    folds = np.stack([np.linspace(-3, 3, 12)[:, None] + shift for shift in (-0.2, 0.1, 0.4)])
    for context in ("stream", "windows"):
        value, _ = merge_folds(folds, context, WindowSpec())
        assert np.abs(value).max() == 1
    inside = np.abs(center(folds[:, :, 0]).merged) < 1
    assert np.allclose(value[inside, 0], center(folds[:, :, 0]).merged[inside]), (
        "centered before they are clipped"
    )


@pytest.mark.parametrize("context", ["stream", "windows"])
def test_what_was_not_there_is_masked(bundle: Bundle, store: Store, context: str) -> None:
    trial = store.trial("silent")
    embedded = embed_trial(bundle, trial)
    assert embedded.missing == {Modality.AUDIO, Modality.LANGUAGE}
    found = predict_trial(bundle, trial, embedded, context)  # type: ignore[arg-type]
    heard = store.trial("other")
    masked = embed_trial(bundle, heard).without(Modality.AUDIO).without(Modality.LANGUAGE)
    picture = replace(
        masked,
        embeddings=masked.embeddings | {Modality.VISUAL: embedded.embeddings[Modality.VISUAL]},
    )
    same = predict_trial(bundle, heard, picture, context)  # type: ignore[arg-type]
    assert np.array_equal(found.value, same.value), "what is masked does not count"


def test_all_branches_masked_gives_numbers(bundle: Bundle, store: Store) -> None:
    embedded = embed_trial(bundle, store.trial("short"))
    for modality in Modality:
        embedded = embedded.without(modality)
    assert np.isfinite(run_folds(bundle.ensemble, embedded, "stream", SHORT)).all()


class TestSoundOfAnInstalledEncoder:
    """A bundle that does not bring its encoder takes the store's embeddings of the same one."""

    @pytest.fixture
    def paper_like(self, bundle: Bundle) -> Bundle:
        recipe = bundle.manifest.recipe.model_copy(update={"audio_encoder": PartUse(name="vggish")})
        manifest = bundle.manifest.model_copy(update={"recipe": recipe})
        return replace(bundle, manifest=manifest, audio_encoder=None)

    def test_stored_embeddings_serve(self, paper_like: Bundle, bundle: Bundle, tmp_path: Path) -> None:
        recipe = bundle_recipe(paper_like.manifest)
        made = write_store(tmp_path / "store", recipe, [Made("a", frames=10)])
        audio = np.random.default_rng(0).normal(0, 1, (10, 32)).astype(np.float32)
        np.save(made.folder / "validation" / "a" / "audio.npy", audio)
        check_store(paper_like, made)
        embedded = embed_trial(paper_like, made.trial("a"))
        assert not embedded.missing
        assert np.array_equal(embedded.embeddings[Modality.AUDIO][0, 0].numpy(), audio)

    def test_without_them_the_branch_is_off(self, paper_like: Bundle, store: Store) -> None:
        assert embed_trial(paper_like, store.trial("short")).missing == {Modality.AUDIO}


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


class TestRecipes:
    @pytest.mark.parametrize(
        ("change", "named"),
        [
            ({"detector": PartUse(name="yunet", sha256="0" * 64)}, "detector is yunet here, haar there"),
            ({"text_encoder": None}, "text encoder is none here"),
            ({"recogniser": PartUse(name="vosk-model-small-en-us-0.15")}, "recogniser is vosk-model-small"),
        ],
    )
    def test_a_mismatch_is_refused_by_name(
        self, bundle: Bundle, command: Command, tmp_path: Path, change: dict[str, object], named: str
    ) -> None:
        recipe = bundle_recipe(bundle.manifest).model_copy(update=change)
        write_store(tmp_path / "store", recipe, [Made("a")])
        said = command(bundle.folder, tmp_path / "store")
        assert "the bundle 'random' was made with other features" in said
        assert named in said

    def test_another_text_encoder_is_refused_by_its_hash(
        self, bundle: Bundle, command: Command, tmp_path: Path
    ) -> None:
        other = FeatureRecipe.model_validate(bundle_recipe(bundle.manifest).model_dump(mode="json"))
        assert other.text_encoder is not None
        other = other.model_copy(
            update={"text_encoder": other.text_encoder.model_copy(update={"sha256": "1" * 64})}
        )
        write_store(tmp_path / "store", other, [Made("a")])
        said = command(bundle.folder, tmp_path / "store")
        assert "text encoder is untrained-bert (111111111111) here, untrained-bert" in said


class TestStoreCommand:
    def test_tables_files_and_metrics(
        self, bundle: Bundle, store: Store, command: Command, tmp_path: Path
    ) -> None:
        said = command(bundle.folder, store.folder, "--context", "both", "--out", tmp_path / "out")
        for word in ("stream", "windows", "CCC", "PCC", "RMSE", "centered", "fold 2", "long", "short"):
            assert word in said
        assert "validation: 3 trials, 84 frames, 69 labelled" in said
        assert "untrained" in said, "what the bundle says of itself is shown with its numbers"
        metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
        assert metrics["bundle"]["sha256"] == bundle.content_hash
        for context in ("stream", "windows"):
            predictions = [
                read_trial(tmp_path / "out" / context / f"{n}.csv") for n in ("long", "part", "short")
            ]
            values, labels, folds = (
                np.concatenate([getattr(p, name) for p in predictions], axis=axis)
                for name, axis in (("value", 0), ("labels", 0), ("folds", 1))
            )
            card = metrics["contexts"][context]
            for k, target in enumerate(TARGETS):
                whole = score(values[:, k], labels[:, k])
                assert whole is not None
                assert card["partition"]["centered"][target]["ccc"] == pytest.approx(whole.ccc, abs=1e-5)
                assert card["partition"]["centered"][target]["rmse"] == pytest.approx(whole.rmse, abs=1e-5)
                assert card["partition"]["centered"][target]["frames"] == 69
                fold = score(folds[1][:, k], labels[:, k])
                assert fold is not None
                assert card["partition"]["folds"][1][target]["pcc"] == pytest.approx(fold.pcc, abs=1e-5)
                part = score(predictions[1].value[:, k], predictions[1].labels[:, k])
                assert part is not None
                assert card["trials"]["part"]["centered"][target]["ccc"] == pytest.approx(part.ccc, abs=1e-5)

    def test_an_unlabelled_partition_is_predicted_without_scores(
        self, bundle: Bundle, store: Store, command: Command, tmp_path: Path
    ) -> None:
        submission = tmp_path / "va.txt"
        said = command(bundle.folder, store.folder, "--partition", "test", "--submission", submission)
        assert "20 frames without labels" in said
        assert "CCC" not in said
        lines = submission.read_text().splitlines()
        assert lines[0] == "image_location,valence,arousal"
        assert [line.split(",")[0] for line in lines[1:]] == [f"unseen/{k:05d}.jpg" for k in range(1, 21)]

    def test_ablation_masks_each_branch(
        self, bundle: Bundle, store: Store, command: Command, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        said = command(bundle.folder, store.folder, "--ablate", "all", "--out", out)
        assert "no visual" in said
        found = json.loads((out / "metrics.json").read_text())["ablation"]["stream"]
        assert list(found) == ["without visual", "without audio", "without language"]
        trials = [store.trial(n) for n in ("long", "part", "short")]
        masked = [embed_trial(bundle, t).without(Modality.AUDIO) for t in trials]
        predictions = [predict_trial(bundle, t, e, "stream") for t, e in zip(trials, masked, strict=True)]
        expected = score(
            np.concatenate([p.value[:, 1] for p in predictions]),
            np.concatenate([p.labels[:, 1] for p in predictions]),
        )
        assert expected is not None
        assert found["without audio"]["arousal"]["ccc"] == pytest.approx(expected.ccc, abs=1e-6)

    def test_each_fold_on_its_own_part(
        self, bundle: Bundle, store: Store, command: Command, tmp_path: Path
    ) -> None:
        split = FoldSplit(parts=(("other",), ("silent",)), validation=("long", "part"))
        write_folds(tmp_path / "folds.json", split)
        out = tmp_path / "out"
        said = command(bundle.folder, store.folder, "--own-fold", tmp_path / "folds.json", "--out", out)
        assert "each fold on its own validation part" in said
        found = json.loads((out / "metrics.json").read_text())["own_folds"]["stream"]
        assert {k: v["trials"] for k, v in found["folds"].items()} == {"0": 2, "1": 1, "2": 1}
        silent = read_trial(out / "stream" / "silent.csv")
        expected = score(silent.folds[2][:, 0], silent.labels[:, 0])
        assert expected is not None
        assert found["folds"]["2"]["valence"]["ccc"] == pytest.approx(expected.ccc, abs=1e-5)
        assert found["pooled"]["valence"]["frames"] == 45 + 15 + 20 + 20
        write_folds(tmp_path / "two.json", FoldSplit(parts=(("other",),), validation=("long",)))
        assert "has 2 folds, but the bundle" in command(
            bundle.folder, store.folder, "--own-fold", tmp_path / "two.json"
        )

    def test_chosen_trials(self, bundle: Bundle, store: Store, command: Command) -> None:
        said = command(bundle.folder, store.folder, "--trial", "short", "--trial", "other")
        assert "chosen trials: 2 trials, 29 frames" in said

    def test_what_is_there_is_kept_unless_asked(
        self, bundle: Bundle, store: Store, command: Command, tmp_path: Path
    ) -> None:
        submission, out = tmp_path / "va.txt", tmp_path / "out"
        submission.write_text("precious")
        out.mkdir()
        (out / "notes.txt").write_text("precious")
        arguments = (bundle.folder, store.folder, "--trial", "short")
        assert "--overwrite" in command(*arguments, "--submission", submission)
        assert "--overwrite" in command(*arguments, "--out", out)
        assert submission.read_text() == "precious"
        command(*arguments, "--submission", submission, "--out", out, "--overwrite")
        assert submission.read_text().startswith("image_location")
        assert (out / "notes.txt").read_text() == "precious"

    @pytest.mark.parametrize(
        ("arguments", "problem"),
        [
            (["--submission", "va.txt", "--context", "both"], "give --context stream or windows"),
            (["--ablate", "smell"], "--ablate is visual, audio, language or all, not 'smell'"),
            (["--trial", "absent"], "has no trial 'absent'"),
            (["--partition", "test", "--ablate", "all"], "none of these trials has labels"),
            (["--labels", "x.txt"], "--labels is for a recording"),
            (["--own-fold", "absent.json"], "absent.json does not exist"),
            (["--own-fold", "absent.json", "--ablate", "all"], "leave --ablate and --submission out"),
            (["--device", "abacus"], "--device is auto, cpu, cuda or cuda:N"),
            (["--device", "cuda:99"], "there is no CUDA device 99"),
            (["--context", "sideways"], "sideways"),
        ],
    )
    def test_mistakes_get_one_clear_line(
        self, bundle: Bundle, store: Store, command: Command, arguments: list[str], problem: str
    ) -> None:
        assert problem in command(bundle.folder, store.folder, *arguments)

    def test_sources_that_are_none(
        self, bundle: Bundle, store: Store, command: Command, tmp_path: Path
    ) -> None:
        assert "there is no store or recording" in command(bundle.folder, tmp_path / "absent")
        assert "is not a store" in command(bundle.folder, tmp_path)
        assert "there is no bundle" in command(tmp_path / "absent", store.folder)
        text = tmp_path / "talk.mp4"
        text.write_text("no media")
        assert "talk.mp4" in command(bundle.folder, text)
        assert "are for a store" in command(bundle.folder, text, "--trial", "a")
        assert "give --labels" in command(bundle.folder, text, "--ablate", "all")

    def test_an_empty_partition_is_named(self, bundle: Bundle, command: Command, tmp_path: Path) -> None:
        write_store(tmp_path / "store", bundle_recipe(bundle.manifest), [Made("a", "train", frames=5)])
        said = command(bundle.folder, tmp_path / "store")
        assert "has no trials in the validation partition: it has train" in said

    def test_damaged_features_are_named(self, bundle: Bundle, command: Command, tmp_path: Path) -> None:
        made = write_store(tmp_path / "store", bundle_recipe(bundle.manifest), [Made("a", frames=5)])
        folder = made.folder / "validation" / "a"
        np.save(folder / "language.npy", np.full((5, 48), np.nan, np.float32))
        assert "estimates of trial 'a' are not finite" in command(bundle.folder, made.folder)
        (folder / "language.npy").write_bytes(b"\x93NUMPY")
        assert "language.npy is damaged" in command(bundle.folder, made.folder)


def test_help_has_examples(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["offline-predict", "--help"])
    assert "offline-predict demo store/ --partition test" in command("--help")


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
