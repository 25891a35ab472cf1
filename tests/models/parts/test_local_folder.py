"""Parts in a folder from elsewhere are found by the names they are published under, or by their hash."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from models.errors import UserError
from models.parts import local_folder
from models.parts.local_folder import find_in_folder, is_folder, published_names, require_in_folder
from models.parts.registry import get_part
from tests.models.parts.site import ONNX

if TYPE_CHECKING:
    from models.parts.registry import PretrainedPart


def test_the_names_a_part_is_published_under() -> None:
    assert published_names(get_part("vggish")) == {"vggish", "vggish.pth", "vggish-10086976.pth"}
    assert published_names(get_part("whisper-tiny.en")) == {"whisper-tiny.en", "faster-whisper-tiny.en"}
    assert published_names(get_part("bert-base-uncased")) == {"bert-base-uncased"}


def test_by_name_at_any_depth_the_shallowest_first(
    tmp_path: Path, recogniser: PretrainedPart, encoder: PretrainedPart
) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "r.zip").touch()
    assert find_in_folder(recogniser, tmp_path) == deep / "r.zip"
    (tmp_path / "recogniser").mkdir()
    assert find_in_folder(recogniser, tmp_path) == tmp_path / "recogniser"
    (tmp_path / "encoder").touch()  # a file cannot be a part that is a folder
    assert find_in_folder(encoder, tmp_path) is None


def test_a_renamed_file_is_found_by_its_hash(tmp_path: Path, detector: PretrainedPart) -> None:
    (tmp_path / "download (1)").write_bytes(ONNX)
    (tmp_path / "other").write_bytes(b"other")
    assert find_in_folder(detector, tmp_path) == tmp_path / "download (1)"


def test_what_is_not_there_is_named_with_its_address(tmp_path: Path, detector: PretrainedPart) -> None:
    with pytest.raises(UserError, match=r"has no detector: fetch http://.*/d\.onnx elsewhere") as refused:
        require_in_folder(detector, tmp_path)
    assert "\n" not in str(refused.value)


def test_a_whole_disk_is_not_searched(
    tmp_path: Path, detector: PretrainedPart, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_folder, "MOST_FILES", 3)
    for number in range(5):
        (tmp_path / str(number)).touch()
    with pytest.raises(UserError, match="more than 3 files: give the folder with the parts alone"):
        find_in_folder(detector, tmp_path)


def refuse_to_look(monkeypatch: pytest.MonkeyPatch, method: str, name: str) -> None:
    """What the system does for a path that this user may not look at; root may look at any."""
    look = getattr(Path, method)

    def refused(path: Path, *arguments: object, **options: object) -> object:
        if path.name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return look(path, *arguments, **options)

    monkeypatch.setattr(Path, method, refused)


def test_what_may_not_be_read_is_named_in_one_line(
    tmp_path: Path, detector: PretrainedPart, encoder: PretrainedPart, monkeypatch: pytest.MonkeyPatch
) -> None:
    stick = tmp_path / "stick"
    (stick / "encoder").mkdir(parents=True)
    (stick / "download (1)").write_bytes(ONNX)
    refuse_to_look(monkeypatch, "open", "download (1)")
    with pytest.raises(UserError, match=r"download \(1\) cannot be read \(Permission denied\): get leave"):
        find_in_folder(detector, stick)
    refuse_to_look(monkeypatch, "is_dir", "encoder")
    with pytest.raises(UserError, match="encoder cannot be read"):
        find_in_folder(encoder, stick)
    refuse_to_look(monkeypatch, "stat", "stick")
    with pytest.raises(UserError, match="stick cannot be read"):
        is_folder(stick)


def test_a_file_that_may_not_be_read_hides_no_other(
    tmp_path: Path, detector: PretrainedPart, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"private")
    (tmp_path / "b").write_bytes(ONNX)
    refuse_to_look(monkeypatch, "open", "a")
    assert find_in_folder(detector, tmp_path) == tmp_path / "b"
