"""From a handful of real pictures, voices and comments to a bundle that was judged: the commands of docs/training.md.

The handful is far too small to learn anything of use from. What holds is that every step takes the real data sets'
forms, that what comes out is a whole bundle with an error to expect, and that it answers to what it is shown.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from models.bundle.load import load_bundle
from tests.commands import run_in_own_process

if TYPE_CHECKING:
    from pathlib import Path

SPEAKERS = ("03", "08", "09", "10", "11", "12", "13")
SENTENCES = ("a01", "a04", "b10")
PICTURES, UNSEEN_PICTURES, COMMENTS = 600, 60, 1500

pytestmark = pytest.mark.slow


def run(command: str, *arguments: object) -> None:
    done = run_in_own_process(command, *arguments, timeout_s=900)
    assert done.returncode == 0, done.stderr


def take_pictures(source: Path, target: Path, count: int) -> Path:
    with np.load(source, allow_pickle=False) as data:
        some = np.linspace(0, len(data["images"]) - 1, count).astype(int)
        np.savez(target, **{name: data[name][some] for name in data.files})
    return target


def take_voices(source: Path, target: Path) -> Path:
    target.mkdir()
    for speaker in SPEAKERS:
        for sentence in SENTENCES:
            for path in sorted(source.glob(f"{speaker}{sentence}*")):
                shutil.copy(path, target)
    return target


def take_comments(source: Path, target: Path) -> Path:
    target.mkdir()
    for name in ("train.tsv", "dev.tsv"):
        lines = (source / name).read_text(encoding="utf-8").split("\n")[:COMMENTS]
        (target / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    shutil.copy(source / "labels.txt", target)
    return target


@pytest.fixture(scope="module")
def handful(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("people")
    take_pictures(people / "ferplus-train.npz", folder / "faces.npz", PICTURES)
    take_pictures(people / "ferplus-validation.npz", folder / "unseen.npz", UNSEEN_PICTURES)
    take_voices(people / "emodb", folder / "voices")
    take_comments(people / "goemotions", folder / "comments")
    return folder


@pytest.fixture(scope="module")
def bundle(handful: Path, people: Path) -> Path:
    faces, unseen, voices = handful / "faces.npz", handful / "unseen.npz", handful / "voices"
    texts, unseen_texts = handful / "comments" / "train.tsv", handful / "comments" / "dev.tsv"
    trunk, store, text = handful / "trunk.safetensors", handful / "store", handful / "text"
    run(
        "offline-pretrain-people",
        *("--faces", faces, "--validation-faces", unseen, "--detector", "haar", "--epochs", 2),
        *("-o", handful / "faces.safetensors"),
    )
    run(
        "offline-pretrain-words",
        *("--voices", voices, "--leave-out", "09", "--voice-epochs", 3),
        *("--texts", texts, "--validation-texts", unseen_texts, "--text-epochs", 2),
        *("--vectors", people / "glove-50d-40k.npz", "--text-encoder", text),
        *("--join", handful / "faces.safetensors", "-o", trunk),
    )
    run(
        "offline-compose",
        store,
        *("--faces", faces, "--voices", voices, "--texts", texts, "--text-encoder", text),
        *("--test-faces", unseen, "--test-texts", unseen_texts, "--hold-out", "09", "--detector", "haar"),
        *("--minutes", 2, "--test-minutes", 0.5, "--trial-seconds", 10),
    )
    run(
        "offline-train",
        store,
        *("--preset", "practical", "--trunk", trunk, "--run", handful / "run", "--parts", 2, "--epochs", 2),
        *("--loss", "frames", "--mask-share", 0.4, "--context", "stream", "--release", "", "--warm-up", 1),
        *("--lr", 1e-3, "--cache-trunk", 1),
    )
    run(
        "offline-bundle",
        handful / "run",
        *("-o", handful / "bundle", "--text-encoder", text, "--calibrate-from", store),
    )
    return handful / "bundle"


@pytest.fixture(scope="module")
def judged(bundle: Path, handful: Path, people: Path) -> dict[str, Any]:
    run(
        "offline-judge",
        bundle,
        *("--faces", handful / "unseen.npz", "--voices", handful / "voices"),
        *("--texts", people / "emobank-dev.csv", "--limit", 20, "--detector", "haar", "--workers", 1),
        *("--json", handful / "judged.json"),
    )
    found: dict[str, Any] = json.loads((handful / "judged.json").read_text(encoding="utf-8"))
    return found


def test_a_handful_of_real_people_becomes_a_whole_bundle(bundle: Path) -> None:
    loaded = load_bundle(str(bundle))
    assert loaded.manifest.trained
    assert loaded.manifest.preset == "practical"
    assert len(loaded.manifest.folds) == 3
    assert loaded.manifest.recipe.crop.grey
    assert loaded.manifest.spread is not None


def test_it_is_judged_on_pictures_sentences_and_texts(judged: dict[str, Any]) -> None:
    found = {judgement["kind"]: judgement for judgement in judged["judgements"]}
    assert set(found) == {"faces", "voices", "texts"}
    for judgement in found.values():
        assert judgement["items"] == 20
        values = np.array([[item["centered"], item["centered_spread"]] for item in judgement["each"]])
        assert np.isfinite(values).all()
        assert np.abs(values[:, 0]).max() <= 1
        assert values[:, 1].min() > 0


def test_it_answers_to_what_it_is_shown(judged: dict[str, Any]) -> None:
    for judgement in judged["judgements"]:
        told = np.array([item["centered"] for item in judgement["each"] if item["present"]])
        assert (np.ptp(told, axis=0) > 0.01).all(), judgement["kind"]
