"""Whatever a command is given instead of what it needs, it says so in one line, with the way out, and ends with 2.

Absent, empty and damaged files, folders for files and files for folders, and what cannot be read: a link to itself is
that for everybody, whereas root may read what has no permissions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest

from models.text.small_bert import make_text_encoder
from tests.offline.composer.made import write_faces, write_texts, write_voices
from tests.offline.judging.made import write_texts as write_ratings
from tests.offline.stores import write_store, write_trunk
from tests.offline.training.runs import begin

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.commands import RunCommand

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
    Case("offline-bundle", ":run -o OUT --allow-missing --trunk BAD", ".safetensors"),
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
    Case("offline-predict", "demo :store --own-fold BAD", ".json"),
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
    Case("offline-report", ":run --store :store --predictions BAD", None),
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
    elif kind == "too long":
        return path.with_name(300 * "x" + (suffix or ""))
    elif kind != "absent":
        path.write_bytes({"empty": b"", "damaged": b"\x93\xff\x00PK\x03\x04" * 40, "text": b"not it\n"}[kind])
    return path


def kinds(case: Case) -> Iterator[str]:
    """What may be wrong: writing replaces whatever a file held, and fills empty folders."""
    yield from (
        ("below a file", "a link to itself", "too long") if not case.written else ("below a file", "too long")
    )
    if not case.written:
        yield from ("absent", "a folder", "empty", "damaged", "text")
    elif case.suffix is None:
        yield from ("empty", "text")
    else:
        yield "a folder"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
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
    store, trunk = write_store(folder / "store", frames=33), write_trunk(folder / "trunk.safetensors")
    begin(folder / "run", store, trunk)
    labels = folder / "data" / "VA_Estimation_Challenge"
    for part in ("Train_Set", "Validation_Set"):
        (labels / part).mkdir(parents=True)
        (labels / part / f"{part}.txt").write_text("valence,arousal\n0,0\n")
    (folder / "data" / "videos").mkdir()
    return folder


@pytest.mark.parametrize(("case", "kind"), [(case, kind) for case in CASES for kind in kinds(case)], ids=str)
def test_it_is_one_line_that_names_it(
    case: Case,
    kind: str,
    good: Path,
    tmp_path: Path,
    run_command: RunCommand,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    bad = spoil(tmp_path / "bad", kind, case.suffix)
    given = [
        str(bad)
        if word == BAD
        else str(good / word[1:])
        if word[0] == ":"
        else word.replace("OUT", str(tmp_path / "out"))
        for word in case.arguments.split()
    ]
    ended = run_command(case.command, *given)
    assert ended.status == 2, ended
    assert ended.err.count("\n") == 1, ended.err
    assert ended.err.startswith(f"{case.command}: ")
    assert ended.err.count(": ") >= 2, "what is wrong, and the way out"
    assert bad.name[:100] in ended.err or "labels.txt" in ended.err
