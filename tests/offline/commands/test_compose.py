"""`offline-compose`, as somebody at a terminal meets it."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from models.text.small_bert import make_text_encoder
from offline.data.store import Store
from tests.commands import run_in_own_process
from tests.offline.composer.made import write_faces, write_texts, write_voices

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("material")
    write_faces(folder / "faces.npz", 60)
    write_voices(folder / "voices")
    write_texts(folder / "texts")
    make_text_encoder(folder / "text", 64, seed=1)
    return folder


def options(folder: Path, **changed: object) -> list[object]:
    given = {
        "faces": folder / "faces.npz",
        "voices": folder / "voices",
        "texts": folder / "texts" / "train.tsv",
        "text-encoder": folder / "text",
        "detector": "haar",
        "minutes": 6,
    } | {name.replace("_", "-"): value for name, value in changed.items()}
    return [part for name, value in given.items() for part in (f"--{name}", value)]


def test_help_imports_no_torch() -> None:
    probe = "import sys, offline.commands.compose; print('torch' in sys.modules or 'cv2' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert "offline-compose store/" in run_in_own_process("offline-compose", "--help").stdout


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"faces": "nowhere.npz"}, "nowhere.npz"),
        ({"minutes": 2}, "fewer than 6 trials"),
        ({"detector": "eyes"}, "unknown face detector 'eyes'"),
        ({"text_encoder": "nowhere"}, "nowhere is not a text encoder's folder"),
        ({"hold_out": "77"}, "no speaker 77"),
        ({"test_faces": "unseen.npz"}, "beside --test-faces give --test-texts, and --hold-out"),
        ({"test_texts": "unseen.tsv"}, "give --test-faces too"),
    ],
)
def test_what_cannot_be_is_one_line_and_status_2(
    material: Path, tmp_path: Path, changed: dict[str, object], named: str
) -> None:
    done = run_in_own_process("offline-compose", tmp_path / "store", *options(material, **changed))
    assert done.returncode == 2, done.stderr
    assert named in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_trials_are_composed_once_and_found_again(material: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    first = run_in_own_process("offline-compose", store, *options(material), "--workers", 1)
    assert first.returncode == 0, first.stderr
    assert len(Store.open(store).trials()) == 6
    again = run_in_own_process("offline-compose", store, *options(material), "--workers", 1)
    assert "6 of 6 trials are there already" in again.stderr
