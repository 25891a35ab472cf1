"""Installing parts: from a real local server or from elsewhere, and checked against their hashes."""

from __future__ import annotations

import hashlib
import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from models.errors import UserError
from models.files import tree_hash
from models.parts import install as install_module
from models.parts.install import pull
from models.parts.registry import (
    PARTS,
    Download,
    PretrainedPart,
    find_part,
    require_part,
    verify,
)
from tests.models.parts.site import ONNX, VOSK, Site, plain_files, zipped


class TestPulling:
    def test_a_file(self, detector: PretrainedPart, folder: Path) -> None:
        seen: list[tuple[str, int, int | None]] = []
        installed = pull(detector, progress=lambda *state: seen.append(state))
        assert installed.path.read_bytes() == ONNX
        assert installed == require_part(detector)
        assert seen[0] == ("d.onnx", 0, len(ONNX))
        assert seen[-1] == ("d.onnx", len(ONNX), len(ONNX))
        assert plain_files(folder / "detector") == ["d.onnx", "part.json"]
        assert not (folder / ".downloads" / "detector").exists()

    def test_a_zip_loses_its_top_folder_and_is_hashed_as_a_tree(self, recogniser: PretrainedPart) -> None:
        installed = pull(recogniser)
        assert plain_files(installed.path) == sorted([*VOSK, "part.json"])
        assert installed.sha256 == tree_hash({n: hashlib.sha256(c).hexdigest() for n, c in VOSK.items()})

    def test_a_folder_of_files(self, encoder: PretrainedPart) -> None:
        installed = pull(encoder)
        assert plain_files(installed.path) == ["config.json", "model.safetensors", "part.json"]

    def test_what_is_installed_and_sound_is_not_downloaded_again(
        self, detector: PretrainedPart, site: Site
    ) -> None:
        pull(detector)
        pull(detector)
        assert len(site.asked) == 1

    def test_a_checkpoint_with_pickles_is_kept_as_safetensors(self, site: Site, tmp_path: Path) -> None:
        weights = {"features.0.weight": torch.arange(4.0), "embeddings.0.bias": torch.ones(2)}
        torch.save(weights, tmp_path / "v.pth")
        site.files["v.pth"] = (tmp_path / "v.pth").read_bytes()
        part = replace(PARTS["vggish"], downloads=(Download(f"{site.url}/v.pth", "vggish.pth"),))
        installed = pull(part)
        assert installed.path.name == "vggish.safetensors"
        assert {k: v.tolist() for k, v in load_file(installed.path).items()} == {
            k: v.tolist() for k, v in weights.items()
        }
        assert plain_files(installed.path.parent) == ["part.json", "vggish.safetensors"]
        assert require_part(part) == installed

    def test_a_checkpoint_that_would_execute_is_refused_unexecuted(self, tmp_path: Path) -> None:
        class Evil:
            def __reduce__(self) -> tuple[object, ...]:
                return (Path.touch, (tmp_path / "executed",))

        torch.save({"features.0.weight": Evil()}, tmp_path / "v.pth", pickle_module=pickle)
        with pytest.raises(UserError, match=r"v.*\.pth cannot be read as a checkpoint"):
            pull("vggish", source=tmp_path / "v.pth")
        assert not (tmp_path / "executed").exists()
        assert find_part("vggish") is None


class TestHashes:
    def test_a_download_that_is_not_the_pinned_one_is_refused(
        self, detector: PretrainedPart, site: Site
    ) -> None:
        site.files["d.onnx"] = ONNX[:-1] + b"!"
        with pytest.raises(UserError, match=r"detector from .* is refused: its hash is"):
            pull(detector)
        assert find_part(detector) is None
        site.files["d.onnx"] = ONNX
        assert pull(detector).path.read_bytes() == ONNX, "the refused download must not stay in the way"

    def test_an_altered_part_is_refused_by_name_and_mended_by_pulling(
        self, recogniser: PretrainedPart
    ) -> None:
        installed = pull(recogniser)
        (installed.path / "graph/HCLG.fst").write_bytes(b"G")
        with pytest.raises(
            UserError, match=r"recogniser in .* is refused: its hash.*`models-pull recogniser`"
        ):
            require_part(recogniser)
        with pytest.raises(UserError, match="refused"):
            verify(installed)
        assert pull(recogniser) == installed
        assert require_part(recogniser) == installed

    @pytest.mark.parametrize("change", ["added", "removed"])
    def test_a_file_more_or_less_is_an_alteration(self, recogniser: PretrainedPart, change: str) -> None:
        installed = pull(recogniser)
        if change == "added":
            (installed.path / "extra.py").write_text("x")
        else:
            (installed.path / "graph/HCLG.fst").unlink()
        with pytest.raises(UserError, match=r"recogniser in .* is refused"):
            find_part(recogniser)

    def test_a_missing_file_is_refused(self, detector: PretrainedPart) -> None:
        pull(detector).path.unlink()
        with pytest.raises(UserError, match=r"detector in .* is refused: it cannot be read"):
            find_part(detector)

    def test_the_hash_recorded_at_the_first_pull_is_held_to(
        self, recogniser: PretrainedPart, site: Site
    ) -> None:
        installed = pull(recogniser)
        (installed.path / "am/final.mdl").write_bytes(b"damaged")
        site.files["r.zip"] = zipped({f"m/{name}": content + b"new" for name, content in VOSK.items()})
        with pytest.raises(UserError, match="as first recorded here"):
            pull(recogniser)

    def test_a_record_of_another_hash_than_the_pinned_one_is_refused(self, detector: PretrainedPart) -> None:
        installed = pull(detector)
        installed.path.write_bytes(b"other")
        record = installed.path.parent / "part.json"
        content = json.loads(record.read_text()) | {"sha256": hashlib.sha256(b"other").hexdigest()}
        record.write_text(json.dumps(content))
        with pytest.raises(UserError, match=r"detector in .* is refused: its record says"):
            find_part(detector)

    @pytest.mark.parametrize("content", ["", "[]", "{}", '{"file": "../../x", "sha256": "a", "source": "s"}'])
    def test_a_damaged_record_is_refused_and_mended_by_pulling(
        self, detector: PretrainedPart, content: str
    ) -> None:
        installed = pull(detector)
        (installed.path.parent / "part.json").write_text(content)
        with pytest.raises(UserError, match=r"detector in .* is refused: its part\.json is damaged"):
            find_part(detector)
        assert pull(detector) == installed


class TestFromElsewhere:
    def test_a_zip_or_the_folder_it_unpacks_to_are_the_same_part(
        self, recogniser: PretrainedPart, site: Site, tmp_path: Path, folder: Path
    ) -> None:
        (tmp_path / "r.zip").write_bytes(site.files["r.zip"])
        from_zip = pull(recogniser, source=tmp_path / "r.zip")
        unpacked = tmp_path / "unpacked"
        for name, content in VOSK.items():
            (unpacked / name).parent.mkdir(parents=True, exist_ok=True)
            (unpacked / name).write_bytes(content)
        assert pull(recogniser, source=unpacked).sha256 == from_zip.sha256
        assert not site.asked

    def test_a_folder_brings_only_the_files_of_the_part(
        self, encoder: PretrainedPart, tmp_path: Path
    ) -> None:
        for name in ("config.json", "model.safetensors", "pytorch_model.bin", "code.py"):
            (tmp_path / name).write_bytes(b"x")
        assert plain_files(pull(encoder, source=tmp_path).path) == [
            "config.json",
            "model.safetensors",
            "part.json",
        ]

    @pytest.mark.parametrize("name", ["detector", "recogniser", "encoder"])
    @pytest.mark.parametrize("kind", ["nothing", "empty folder", "file"])
    def test_what_is_not_the_part_is_refused(
        self, name: str, kind: str, tmp_path: Path, request: pytest.FixtureRequest
    ) -> None:
        part, source = request.getfixturevalue(name), tmp_path / "given"
        if kind == "empty folder":
            source.mkdir()
        elif kind == "file":
            source.write_bytes(b"something else")
        with pytest.raises(UserError, match="given"):
            pull(part, source=source)
        assert find_part(part) is None

    def test_the_part_that_was_there_stays_when_the_new_one_is_refused(
        self, recogniser: PretrainedPart, tmp_path: Path
    ) -> None:
        installed = pull(recogniser)
        (tmp_path / "bad.zip").write_bytes(b"PK")
        with pytest.raises(UserError, match="not a sound zip"):
            pull(recogniser, source=tmp_path / "bad.zip")
        assert require_part(recogniser) == installed

    def test_a_source_that_may_not_be_read_is_named(
        self, detector: PretrainedPart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "d.onnx").write_bytes(ONNX)

        def refuse(source: Path, target: Path) -> None:
            raise PermissionError(13, "Permission denied", str(source))

        monkeypatch.setattr(install_module.shutil, "copyfile", refuse)  # type: ignore[attr-defined]
        with pytest.raises(UserError, match=r"d\.onnx cannot be read \(Permission denied\): get leave"):
            pull(detector, source=tmp_path / "d.onnx")

    def test_a_folder_that_cannot_be_written_is_said(
        self, detector: PretrainedPart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").write_text("in the way")
        monkeypatch.setenv("AFFECT_MODELS", str(tmp_path / "file"))
        with pytest.raises(UserError, match=r"detector cannot be installed in .*file"):
            pull(detector)


def test_two_pulls_of_one_part_do_not_meet(detector: PretrainedPart, folder: Path) -> None:
    (folder / ".downloads" / "detector").mkdir(parents=True)
    with (
        install_module.FileLock(folder / ".downloads" / "detector.lock"),  # type: ignore[attr-defined]
        pytest.raises(UserError, match="another models-pull"),
    ):
        pull(detector)
