"""Whatever a command is given instead of what it needs, it says so in one line, with the way out, and ends with 2.

Absent, empty and damaged files, folders for files and files for folders, and what cannot be read: a link to itself is
that for everybody, whereas root may read what has no permissions.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from models.text.small_bert import make_text_encoder
from tests.offline.composer.made import write_faces, write_texts, write_voices
from tests.offline.judging.made import write_texts as write_ratings
from tests.offline.stores import write_store, write_trunk
from tests.offline.training.runs import train_run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.bundle.load import Bundle
    from offline.data.store import Store
    from tests.commands import Ended, RunCommand

BAD = "BAD"
"""Stands for what is wrong in a command's arguments; others that begin with a colon are good files by their names."""


@dataclass(frozen=True)
class Case:
    """A command whose argument BAD is a `file` of such a suffix, or a folder where that is None."""

    command: str
    arguments: str
    suffix: str | None
    written: bool = False

    def __str__(self) -> str:
        """For the test's name."""
        before = self.arguments.split(BAD, maxsplit=1)[0].split()
        return f"{self.command} {before[-1] if before else 'first'}{self.suffix or '/'}"


COMPOSE = "OUT --minutes 6 --detector haar --workers 1"
WORDS = "-o OUT/trunk.safetensors --voice-epochs 1 --text-epochs 1"

CASES = (
    Case("offline-bundle", "BAD -o OUT", None),
    Case("offline-bundle", ":run -o OUT --trunk BAD", ".safetensors"),
    Case("offline-bundle", ":run -o OUT --text-encoder BAD", None),
    Case("offline-card", "BAD -o -", None),
    Case("offline-card", "demo BAD -o -", ".json"),
    Case("offline-card", "demo -o - --template BAD", ".md"),
    Case("offline-card", "demo --overwrite -o BAD", ".md", written=True),
    Case(
        "offline-compose",
        f"{COMPOSE} --faces BAD --voices :emodb --texts :train.tsv --text-encoder :text",
        ".npz",
    ),
    Case(
        "offline-compose",
        f"{COMPOSE} --faces :faces.npz --voices BAD --texts :train.tsv --text-encoder :text",
        None,
    ),
    Case(
        "offline-compose",
        f"{COMPOSE} --faces :faces.npz --voices :emodb --texts BAD --text-encoder :text",
        ".tsv",
    ),
    Case(
        "offline-compose",
        f"{COMPOSE} --faces :faces.npz --voices :emodb --texts :train.tsv --text-encoder BAD",
        None,
    ),
    Case("offline-judge", "BAD --texts :emobank.csv", None),
    Case("offline-judge", "demo --faces BAD", ".npz"),
    Case("offline-judge", "demo --voices BAD", None),
    Case("offline-judge", "demo --texts BAD", ".csv"),
    Case("offline-judge", "demo --texts BAD", ".tsv"),
    Case("offline-judge", "demo --votes :votes.csv --clips BAD", None),
    Case("offline-judge", "demo --clips :clips --votes BAD", ".csv"),
    Case("offline-judge", "demo --talking BAD --workers 1", ".mp4"),
    Case(
        "offline-judge", "demo --texts :emobank.csv --limit 1 --workers 1 --json BAD", ".json", written=True
    ),
    Case("offline-perform", "BAD --people 2 --minutes 1 --workers 1", None, written=True),
    Case("offline-perform", "--demo BAD", ".mp4", written=True),
    Case("offline-predict", "demo BAD", ".mp4"),
    Case("offline-predict", "demo BAD", None),
    Case("offline-predict", "BAD :store", None),
    Case("offline-predict", ":bundle :trials --own-fold BAD", ".json"),
    Case("offline-preprocess", "BAD OUT", None),
    Case("offline-preprocess", ":data BAD", None, written=True),
    Case("offline-preprocess", ":data OUT --text-encoder BAD", None),
    Case("offline-pretrain", "BAD -o OUT/trunk.safetensors", None),
    Case("offline-pretrain-people", "--faces BAD --validation-faces :faces.npz -o OUT/t.safetensors", ".npz"),
    Case("offline-pretrain-people", "--faces :faces.npz --validation-faces BAD -o OUT/t.safetensors", ".npz"),
    Case("offline-pretrain-words", f"{WORDS} --voices BAD", None),
    Case("offline-pretrain-words", f"{WORDS} --voices :emodb --join BAD", ".safetensors"),
    Case("offline-pretrain-words", f"{WORDS} --voices :emodb --voice-teacher BAD", ".npz"),
    Case("offline-pretrain-words", f"{WORDS} --texts BAD --vectors :glove.npz", ".tsv"),
    Case(
        "offline-pretrain-words",
        f"{WORDS} --texts :train.tsv --validation-texts BAD --vectors :glove.npz",
        ".tsv",
    ),
    Case("offline-pretrain-words", f"{WORDS} --texts :train.tsv --vectors BAD", ".npz"),
    Case(
        "offline-pretrain-words",
        f"{WORDS} --texts :train.tsv --vectors :glove.npz --text-teacher BAD",
        ".npz",
    ),
    Case("offline-report", "BAD", None),
    Case("offline-report", ":run --store BAD", None),
    Case("offline-report", ":run --store :trained --predictions BAD", None),
    Case("offline-teach", "voices BAD --model :text", None),
    Case("offline-teach", "voices :emodb --model BAD", None),
    Case("offline-teach", "texts BAD --model :text --vectors :glove.npz", ".tsv"),
    Case("offline-teach", "texts :train.tsv --vectors :glove.npz --model BAD", None),
    Case("offline-teach", "texts :train.tsv --model :text --vectors BAD", ".npz"),
    Case("offline-train", "BAD --preset compact --trunk :trunk.safetensors --run OUT", None),
    Case("offline-train", ":store --preset compact --run OUT --trunk BAD", ".safetensors"),
    Case(
        "offline-train", ":store --preset compact --run OUT --trunk :trunk.safetensors --folds BAD", ".json"
    ),
    Case("offline-train", ":store --preset compact --trunk :trunk.safetensors --run BAD", None, written=True),
)


def spoil(path: Path, kind: str, suffix: str | None) -> Path:
    """Something at `path` that is no sound file of that suffix, or no sound folder where there is none."""
    path = path.with_suffix(suffix or "")
    if kind == "a link to itself":
        path.symlink_to(path)
    elif kind == "a folder":
        path.mkdir()
    elif kind == "below a file":
        path.write_text("a file")
        return path / "inside"
    elif kind != "absent":
        path.write_bytes({"empty": b"", "damaged": b"\x93\xff\x00PK\x03\x04" * 40, "text": b"not it\n"}[kind])
    return path


def kinds(case: Case) -> Iterator[str]:
    """What may be wrong: writing replaces whatever a file held, and fills empty folders."""
    yield "below a file"
    if not case.written:
        yield from ("absent", "damaged", "a folder", "a link to itself", "empty", "text")
    elif case.suffix is None:
        yield from ("empty", "text")
    else:
        yield "a folder"


def parameters() -> Iterator[object]:
    """Every command with every kind; those that fare as others do only with AFFECT_EVERY_INPUT=1: a minute more."""
    for case in CASES:
        for kind in kinds(case):
            rare = kind in ("a link to itself", "empty", "text") and not case.written
            if not rare or os.environ.get("AFFECT_EVERY_INPUT"):
                yield pytest.param(case, kind, id=f"{case} {kind}")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory, bundle: Bundle, store: Store) -> Path:
    """What the commands need besides, each under its name."""
    folder = tmp_path_factory.mktemp("good")
    write_faces(folder / "faces.npz", 60)
    write_voices(folder / "emodb")
    write_texts(folder)
    make_text_encoder(folder / "text", 64, seed=1)
    write_ratings(folder / "emobank.csv", {"a fine day": (4.0, 3.0)})
    (folder / "votes.csv").write_text(
        "modality,anger,disgust,fear,happy,neutral,sad,clip\nface,1,0,0,0,0,0,a\n"
    )
    (folder / "clips").mkdir()
    (folder / "clips" / "a.mp4").write_bytes(b"nothing")
    np.savez(folder / "glove.npz", words=np.array(["fine", "awful"]), vectors=np.eye(2, 50, dtype=np.float32))
    write_store(folder / "store", frames=33)
    trunk = write_trunk(folder / "trunk.safetensors")
    trained = write_store(folder / "trained", people=2, trials=1, validation=1, frames=24)
    train_run(folder / "run", trained, trunk)
    (folder / "trials").symlink_to(store.folder)
    (folder / "bundle").symlink_to(bundle.folder)
    labels = folder / "data" / "VA_Estimation_Challenge"
    for part in ("Train_Set", "Validation_Set"):
        (labels / part).mkdir(parents=True)
        (labels / part / f"{part}.txt").write_text("valence,arousal\n0,0\n")
    (folder / "data" / "videos").mkdir()
    return folder


def check_refused(ended: Ended, command: str, *names: str) -> None:
    """One line on stderr with one of the names in it, and the status of an error that the user can mend."""
    assert ended.status == 2, ended
    assert ended.err.count("\n") == 1, ended.err
    assert ended.err.startswith(f"{command}: ")
    assert ended.err.count(": ") >= 2, "what is wrong, and the way out"
    assert any(name in ended.err for name in names), ended.err


def check_installed(line: str) -> None:
    """Skips where the command would speak of what it needs and what is not here."""
    if line.startswith("offline-report"):
        pytest.importorskip("matplotlib")
    if line.startswith("offline-teach voices"):
        pytest.importorskip("faster_whisper")
    if line.startswith("offline-perform") and shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng is not installed")


def arguments_of(text: str, good: Path, out: Path, **others: Path) -> list[str]:
    """The arguments that a command is given: files that are `others` by their names, and those that are good."""
    return [
        str(others[word])
        if word in others
        else str(good / word[1:])
        if word[0] == ":"
        else word.replace("OUT", str(out))
        for word in text.split()
    ]


@pytest.mark.parametrize(("case", "kind"), list(parameters()))
def test_it_is_one_line_that_names_it(
    case: Case,
    kind: str,
    good: Path,
    tmp_path: Path,
    run_command: RunCommand,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    check_installed(f"{case.command} {case.arguments}")
    monkeypatch.chdir(tmp_path)
    bad = spoil(tmp_path / "bad", kind, case.suffix)
    ended = run_command(case.command, *arguments_of(case.arguments, good, tmp_path / "out", BAD=bad))
    # Of a table of comments the labels beside it are read first; a template is given once.
    check_refused(ended, case.command, bad.name, "labels.txt", "the template lacks")


@pytest.mark.parametrize("command", ["offline-judge", "offline-preprocess", "offline-train"])
def test_a_name_that_no_system_takes_is_one_line(
    command: str, good: Path, tmp_path: Path, run_command: RunCommand
) -> None:
    name = tmp_path / (300 * "x")
    given: dict[str, list[object]] = {
        "offline-judge": ["demo", "--voices", name],
        "offline-preprocess": [name, tmp_path / "out"],
    }
    check_refused(run_command(command, *given.get(command, [name])), command, str(name), "cannot be used")


TRAIN = "offline-train --preset compact --trunk :trunk.safetensors"
PRETRAIN = "offline-pretrain store -o OUT/trunk.safetensors"
DOES_WITHOUT = {
    ("run/fold-0/result.json", None),
    ("run/fold-0/best.safetensors", None),
    ("run/fold-0/history.jsonl", b""),
}
"""What a report leaves out where it is not there."""

DAMAGED = {
    "offline-bundle run -o OUT": (
        "run/run.json",
        "run/folds.json",
        "run/trunk.safetensors",
        "run/fold-0/result.json",
        "run/fold-0/best.safetensors",
    ),
    "offline-report run --store :trained": (
        "run/run.json",
        "run/folds.json",
        "run/fold-0/result.json",
        "run/fold-0/best.safetensors",
        "run/fold-0/history.jsonl",
    ),
    f"{TRAIN} :trained --run run --resume --parts 2": ("run/run.json", "run/folds.json"),
    f"{TRAIN} store --run OUT --fold 0": (
        "store/store.json",
        "store/train/p0-0/trial.json",
        "store/train/p0-0/labels.npy",
        "store/train/p0-0/crops.npy",
    ),
    f"{PRETRAIN} --parts visual": ("store/train/p0-0/crops.npy",),
    f"{PRETRAIN} --parts audio": ("store/train/p0-0/logmel.npy",),
    f"{PRETRAIN} --parts language": ("store/train/p0-0/words.json",),
    "offline-predict :bundle store --partition validation": (
        "store/store.json",
        "store/validation/long/trial.json",
        "store/validation/long/labels.npy",
        "store/validation/long/crops.npy",
        "store/validation/long/logmel.npy",
        "store/validation/long/patch_ends.npy",
        "store/validation/long/language.npy",
    ),
}
"""What each command reads of a copy of the good run, or of a good store."""


@pytest.mark.parametrize("content", [b"", b"\x93\xff\x00PK\x03\x04" * 40, b"{}", b"[1]", None])
@pytest.mark.parametrize(
    ("line", "file"), [(line, file) for line, files in DAMAGED.items() for file in files]
)
@pytest.mark.slow
def test_a_damaged_file_of_a_run_or_a_store_is_one_line_that_names_it(
    line: str,
    file: str,
    content: bytes | None,
    good: Path,
    tmp_path: Path,
    run_command: RunCommand,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if "offline-report" in line and (file, content) in DOES_WITHOUT:
        pytest.skip("a report does without it")
    check_installed(line)
    monkeypatch.chdir(tmp_path)
    whole = "run" if file.startswith("run/") else "trials" if "offline-predict" in line else "store"
    copy = Path(shutil.copytree(good / whole, tmp_path / file.split("/")[0]))
    if content is None:
        (tmp_path / file).unlink()
        (tmp_path / file).mkdir()
    else:
        (tmp_path / file).write_bytes(content)
    command, _, text = line.partition(" ")
    others = {"run": copy, "store": copy}
    ended = run_command(command, *arguments_of(text, good, tmp_path / "out", **others))
    check_refused(ended, command, (tmp_path / file).name, copy.name)
