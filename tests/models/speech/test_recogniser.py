"""Choosing and opening a recogniser: what is chosen by itself, and what is refused in one line."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from models.errors import SetupError, UserError
from models.speech.recogniser import (
    PREFERRED,
    TINY,
    TINY_FOLDER,
    check_vosk_folder,
    find_recogniser,
    open_recogniser,
)


@dataclass(frozen=True)
class Installed:
    path: Path


def nothing_installed(name: str) -> Installed | None:
    return None


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    shutil.copytree(TINY_FOLDER, folder)
    return folder


def test_the_shipped_recogniser_is_whole() -> None:
    check_vosk_folder(TINY_FOLDER)


def test_a_recogniser_hears_silence_as_nothing() -> None:
    recogniser = open_recogniser(TINY_FOLDER)()
    assert recogniser.accept(np.zeros(8_000, np.int16)) is False
    assert recogniser.partial() == ""
    assert recogniser.final() == []


# Choosing


def test_auto_takes_the_best_full_model() -> None:
    both = {name: Installed(Path("/models") / name) for name in PREFERRED}
    assert find_recogniser("auto", both.get).name == "vosk-model-en-us-0.22"
    small = {PREFERRED[1]: both[PREFERRED[1]]}
    choice = find_recogniser("auto", small.get)
    assert (choice.name, choice.folder) == (PREFERRED[1], Path("/models") / PREFERRED[1])


def test_auto_never_takes_the_tiny_one_and_says_what_to_install() -> None:
    choice = find_recogniser("auto", nothing_installed)
    assert choice.folder is None
    assert choice.reason
    assert choice.way_out == (
        "models-pull vosk-model-small-en-us-0.15, "
        "or models-pull whisper-tiny.en and pip install 'affectstream[whisper]'"
    )


def test_none_switches_words_off_whatever_is_installed() -> None:
    assert find_recogniser("none", lambda name: Installed(TINY_FOLDER)).folder is None


def test_the_tiny_one_is_taken_by_name() -> None:
    assert find_recogniser(TINY, nothing_installed).folder == TINY_FOLDER


def test_a_folder_is_taken_as_it_is(copy: Path) -> None:
    choice = find_recogniser(str(copy), nothing_installed)
    assert (choice.name, choice.folder) == ("model", copy)


def test_a_model_that_is_not_installed_names_the_command() -> None:
    with pytest.raises(UserError, match=r"models-pull vosk-model-en-us-0\.22"):
        find_recogniser("vosk-model-en-us-0.22", nothing_installed)


def test_what_is_neither_name_nor_folder_is_refused() -> None:
    with pytest.raises(UserError, match="no recogniser 'whisper'"):
        find_recogniser("whisper", nothing_installed)


# Damage


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere.*models-pull vosk-model-small-en-us-0\.15"):
        open_recogniser(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["am/final.mdl", "conf/mfcc.conf", "conf/model.conf", "graph/HCLG.fst"])
def test_a_missing_or_empty_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(UserError, match="not a Vosk model"):
        open_recogniser(copy)
    (copy / name).touch()
    with pytest.raises(UserError, match=name if "graph" not in name else "graph/HC"):
        find_recogniser(str(copy), nothing_installed)


@pytest.mark.parametrize("name", ["am/final.mdl", "graph/HCLG.fst", "conf/model.conf", "graph/words.txt"])
def test_a_damaged_file_gives_one_line_and_kaldi_keeps_quiet(
    copy: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (copy / name).write_bytes(b"--nonsense=1\n" * 100)
    with pytest.raises(UserError) as caught:
        open_recogniser(copy)
    assert str(copy) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_what_is_wrong_and_the_way_out_are_told_apart(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SetupError) as absent:
        find_recogniser("vosk-model-en-us-0.22", nothing_installed)
    assert (absent.value.problem, absent.value.way_out) == (
        "the recogniser 'vosk-model-en-us-0.22' is not installed",
        "models-pull vosk-model-en-us-0.22",
    )
    with pytest.raises(UserError) as unknown:
        find_recogniser("nobody", nothing_installed)
    assert unknown.value.problem == "no recogniser 'nobody'"
    assert "vosk-tiny" in unknown.value.way_out
    (copy / "am/final.mdl").write_bytes(b"--nonsense=1\n" * 100)
    with pytest.raises(SetupError) as damaged:
        open_recogniser(copy)
    assert "models-pull" in damaged.value.way_out
    (copy / "am/final.mdl").unlink()
    with pytest.raises(UserError) as broken:
        open_recogniser(copy)
    assert "models-pull" in broken.value.way_out
    monkeypatch.setitem(sys.modules, "vosk", None)
    with pytest.raises(SetupError) as no_package:
        open_recogniser(TINY_FOLDER)
    assert no_package.value.way_out == "pip install vosk, or give --recogniser none"


def test_auto_names_the_part_that_would_serve() -> None:
    assert find_recogniser("auto", nothing_installed).missing == "vosk-model-small-en-us-0.15"
    assert find_recogniser("none", nothing_installed).missing is None
    assert find_recogniser(TINY, nothing_installed).missing is None
