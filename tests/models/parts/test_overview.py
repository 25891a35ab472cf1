"""What this machine has of every part."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.parts.overview import list_parts
from models.parts.registry import PARTS, models_folder

if TYPE_CHECKING:
    import pytest


def test_every_part_is_there_in_the_registrys_order() -> None:
    parts = list_parts()
    assert [part.name for part in parts] == list(PARTS)
    tiny = next(part for part in parts if part.name == "vosk-tiny")
    assert tiny.installed
    assert tiny.path is not None
    assert tiny.sha256
    vggish = next(part for part in parts if part.name == "vggish")
    assert (vggish.installed, vggish.path, vggish.trouble) == (False, None, "")
    assert vggish.install == "models-pull vggish"


def test_a_damaged_part_says_so_and_the_others_are_still_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = models_folder() / "yunet"
    folder.mkdir(parents=True)
    (folder / "part.json").write_text("{}")
    parts = {part.name: part for part in list_parts()}
    assert not parts["yunet"].installed
    assert "yunet" in parts["yunet"].trouble
    assert len(parts) == len(PARTS)
