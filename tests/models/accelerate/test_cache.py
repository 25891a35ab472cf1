"""The cache on disk: found by content, checked by hash, bounded."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
import torch._dynamo
from torch import nn

from models.accelerate.cache import ABANDONED_S, ENTRY, ArtifactCache, module_hash
from tests.models.accelerate.small_module import Small

if TYPE_CHECKING:
    from collections.abc import Callable


def write_blob(folder: Path, content: bytes) -> None:
    (folder / "blob").write_bytes(content)


class TestCache:
    @pytest.fixture
    def cache(self, tmp_path: Path) -> ArtifactCache:
        return ArtifactCache(tmp_path / "cache")

    def test_what_was_kept_is_found_under_the_same_facts_only(self, cache: ArtifactCache) -> None:
        cache.keep_json({"a": 1}, ["kept"])
        assert cache.find_json({"a": 1}) == ["kept"]
        assert cache.find_json({"a": 2}) is None

    @pytest.mark.parametrize(
        "damage",
        [
            lambda folder: (folder / "value.json").write_text("[]"),
            lambda folder: (folder / "value.json").unlink(),
            lambda folder: (folder / "more").write_text("x"),
            lambda folder: (folder / ENTRY).write_text("{"),
            lambda folder: (folder / ENTRY).write_text("[]"),
        ],
        ids=["altered", "missing", "added", "entry cut", "entry odd"],
    )
    def test_a_damaged_entry_is_absent_and_removed(
        self, cache: ArtifactCache, damage: Callable[[Path], object]
    ) -> None:
        cache.keep_json({"a": 1}, ["kept"])
        (folder,) = cache.folder.iterdir()
        damage(folder)
        assert cache.find({"a": 1}) is None
        assert not folder.exists()

    def test_it_does_not_grow_beyond_its_bound(self, tmp_path: Path) -> None:
        cache = ArtifactCache(tmp_path, most_bytes=3000)
        for i in range(9):
            cache.keep({"i": i}, lambda folder: write_blob(folder, bytes(800)))
        sizes = [f.stat().st_size for f in tmp_path.rglob("*") if f.is_file()]
        assert sum(sizes) <= 3000
        assert cache.find({"i": 8}) is not None
        assert cache.find({"i": 0}) is None

    def test_what_a_killed_process_left_half_made_is_removed_and_what_is_being_made_is_not(
        self, cache: ArtifactCache
    ) -> None:
        left, being_made = cache.folder / ".building-left", cache.folder / ".building-now"
        for folder in (left, being_made):
            (folder / "entry").mkdir(parents=True)
            (folder / "entry" / "blob").write_bytes(bytes(800))
        long_ago = time.time() - 2 * ABANDONED_S
        os.utime(left, (long_ago, long_ago))
        cache.keep_json({"a": 1}, ["kept"])
        assert not left.exists()
        assert (being_made / "entry" / "blob").exists()

    def test_an_entry_that_another_process_removes_meanwhile_does_not_undo_the_new_one(
        self, cache: ArtifactCache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cache.keep_json({"a": 1}, ["kept"])
        (gone,) = cache.folder.iterdir()
        look = Path.stat

        def look_late(path: Path, **options: bool) -> os.stat_result:
            if path.parent == gone:
                raise FileNotFoundError(path)
            return look(path, **options)

        monkeypatch.setattr(Path, "stat", look_late)
        folder = cache.keep({"a": 2}, lambda folder: write_blob(folder, b"x"))
        assert folder is not None
        assert (folder / "blob").read_bytes() == b"x"

    def test_a_folder_that_cannot_be_written_keeps_nothing_and_says_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        cache = ArtifactCache(tmp_path / "file" / "cache")
        cache.keep_json({"a": 1}, ["kept"])
        assert cache.find_json({"a": 1}) is None

    def test_a_module_is_hashed_by_all_it_holds(self) -> None:
        one, other = Small(), Small()
        assert module_hash(one) == module_hash(other)
        with torch.no_grad():
            other.slope[3] = 0.3
        assert module_hash(one) != module_hash(other)
        assert module_hash(nn.Conv2d(1, 1, 3, stride=1)) != module_hash(nn.Conv2d(1, 1, 3, stride=2))

    def test_a_lone_value_is_hashed_whatever_its_stride(self) -> None:
        plain, strided = nn.Module(), nn.Module()
        plain.value = nn.Buffer(torch.tensor([2.0]))
        strided.value = nn.Buffer(torch.tensor([2.0, 3.0]).as_strided((1,), (2,)))
        assert module_hash(plain) == module_hash(strided)
