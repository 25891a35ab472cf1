"""`offline-predict` on a store: what it scores, writes and refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest

from models.bundle.manifest import FeatureRecipe, PartUse
from models.spec import TARGETS, Modality
from offline.data.folds import FoldSplit, write_folds
from offline.data.store import Store, bundle_recipe
from offline.metrics import score
from offline.prediction.files import read_trial
from offline.prediction.predict import embed_trial, predict_trial
from tests.offline.trial_stores import Made, write_store

if TYPE_CHECKING:
    from pathlib import Path

    from models.bundle.load import Bundle
    from tests.commands import RunCommand


Command = Callable[..., str]


@pytest.fixture
def command(run_command: RunCommand) -> Command:
    """Runs `offline-predict` in this process; gives what it printed, or its one line of refusal."""
    return lambda *arguments: run_command("offline-predict", *arguments, "--threads", "1").said


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


def test_help_has_examples(run_command: RunCommand) -> None:
    assert "offline-predict demo store/ --partition test" in run_command("offline-predict", "--help").said
