"""Pretrained parts: pulled from a real local server, held to their hashes, refused by name when altered."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import pickle
import re
import socket
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from models.errors import UserError
from models.files import tree_hash
from models.parts import registry as parts
from models.parts.registry import (
    PARTS,
    Download,
    PretrainedPart,
    find_part,
    get_part,
    pull,
    require_part,
    verify,
)

ONNX = bytes(range(256)) * 2_000
VOSK = {
    "am/final.mdl": b"acoustic",
    "conf/mfcc.conf": b"--x",
    "conf/model.conf": b"--y",
    "graph/HCLG.fst": b"g",
}


@dataclass
class Site:
    """A server on 127.0.0.1 that knows ranges: what it publishes, how it misbehaves, what it was asked."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    tag: str | None = '"one"'
    break_after: list[int] = field(default_factory=list)
    """Bytes after which the next answers break off, one entry an answer."""
    asked: list[tuple[str, str | None]] = field(default_factory=list)


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name, wanted = self.path.lstrip("/"), self.headers["Range"]
            site.asked.append((name, wanted))
            if name not in site.files:
                self.send_error(404)
                return
            content, start = site.files[name], 0
            if wanted and self.headers["If-Range"] == site.tag:
                start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])  # type: ignore[index]
                if start >= len(content):
                    self.send_error(416)
                    return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            if site.tag:
                self.send_header("ETag", site.tag)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            end = start + site.break_after.pop(0) if site.break_after else len(content)
            self.wfile.write(content[start:end])

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_port}"
    yield site
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AFFECT_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def detector(site: Site) -> PretrainedPart:
    site.files["d.onnx"] = ONNX
    return PretrainedPart(
        name="detector",
        purpose="finds faces",
        licence="MIT",
        kind="file",
        downloads=(Download(f"{site.url}/d.onnx", "d.onnx"),),
        megabytes=1,
        sha256=hashlib.sha256(ONNX).hexdigest(),
    )


@pytest.fixture
def recogniser(site: Site) -> PretrainedPart:
    site.files["r.zip"] = zipped({f"vosk-model/{name}": content for name, content in VOSK.items()})
    return PretrainedPart(
        name="recogniser",
        purpose="hears words",
        licence="Apache-2.0",
        kind="zip",
        downloads=(Download(f"{site.url}/r.zip", "r.zip"),),
        megabytes=1,
        must_have=("am/final.mdl", "conf/model.conf"),
    )


@pytest.fixture
def encoder(site: Site) -> PretrainedPart:
    site.files |= {"config.json": b"{}", "model.safetensors": b"weights"}
    return PretrainedPart(
        name="encoder",
        purpose="reads words",
        licence="Apache-2.0",
        kind="folder",
        downloads=tuple(Download(f"{site.url}/{n}", n) for n in ("config.json", "model.safetensors")),
        megabytes=1,
        must_have=("config.json", "model.safetensors"),
    )


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def plain_files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


class TestRegistry:
    def test_names_are_those_the_house_uses(self) -> None:
        assert set(PARTS) == {
            "vosk-tiny",
            "vosk-model-small-en-us-0.15",
            "vosk-model-en-us-0.22",
            "whisper-tiny.en",
            "yunet",
            "vggish",
            "bert-base-uncased",
        }

    def test_everything_is_published_over_https_and_is_licensed(self) -> None:
        for part in PARTS.values():
            assert part.licence
            assert part.shipped != bool(part.downloads)
            assert all(d.url.startswith("https://") for d in part.downloads)

    def test_the_shipped_recogniser_is_always_installed(self) -> None:
        found = require_part("vosk-tiny")
        assert (found.path / "am" / "final.mdl").is_file()

    def test_the_real_detector_has_the_pinned_hash(self, fixtures: Path) -> None:
        found = pull("yunet", source=fixtures / "face" / "face_detection_yunet_2023mar.onnx")
        assert found.sha256 == get_part("yunet").sha256
        assert require_part("yunet") == found

    def test_an_unknown_name_lists_the_known_ones(self) -> None:
        with pytest.raises(UserError, match=r"no part 'yolo'.*yunet.*vggish"):
            find_part("yolo")

    def test_a_part_that_is_not_installed_says_which_command_installs_it(self) -> None:
        assert find_part("vggish") is None
        with pytest.raises(UserError, match=r"vggish .*not installed: run `models-pull vggish`"):
            require_part("vggish")

    def test_what_is_shipped_is_not_pulled(self) -> None:
        with pytest.raises(UserError, match="nothing to install"):
            pull("vosk-tiny")


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


class TestInterruptedDownloads:
    def test_go_on_where_the_connection_broke(self, detector: PretrainedPart, site: Site) -> None:
        site.break_after = [100_000, 50_000]
        assert pull(detector).path.read_bytes() == ONNX
        assert [wanted for _, wanted in site.asked] == [None, "bytes=100000-", "bytes=150000-"]

    def test_that_keep_breaking_are_gone_on_with_at_the_next_pull(
        self, detector: PretrainedPart, site: Site
    ) -> None:
        site.break_after = [1_000, 1_000, 1_000]
        with pytest.raises(
            UserError, match=r"detector cannot be downloaded.*3000 of 512000 bytes.*--from FILE"
        ):
            pull(detector)
        assert find_part(detector) is None
        assert pull(detector).path.read_bytes() == ONNX
        assert site.asked[-1][1] == "bytes=3000-"

    def test_start_over_where_the_server_has_another_file_meanwhile(
        self, recogniser: PretrainedPart, site: Site
    ) -> None:
        site.break_after = [100, 0, 0]
        with pytest.raises(UserError, match="cannot be downloaded"):
            pull(recogniser)
        site.tag = '"two"'
        site.files["r.zip"] = zipped({f"other/{name}": content + b"2" for name, content in VOSK.items()})
        assert (pull(recogniser).path / "am/final.mdl").read_bytes() == b"acoustic2"

    @pytest.mark.parametrize("tag", [None, 'W/"weak"'])
    def test_start_over_where_the_server_cannot_prove_it_is_the_same_file(
        self, detector: PretrainedPart, site: Site, tag: str | None
    ) -> None:
        site.tag, site.break_after = tag, [100]
        assert pull(detector).path.read_bytes() == ONNX
        assert [wanted for _, wanted in site.asked] == [None, None]

    def test_a_partial_file_longer_than_the_whole_is_thrown_away(
        self, detector: PretrainedPart, site: Site, folder: Path
    ) -> None:
        leftovers = folder / ".downloads" / "detector"
        leftovers.mkdir(parents=True)
        (leftovers / "d.onnx.part").write_bytes(ONNX * 2)
        (leftovers / "d.onnx.validator").write_text('"one"')
        assert pull(detector).path.read_bytes() == ONNX

    def test_without_a_network_one_line_names_the_part_and_the_way_out(
        self, detector: PretrainedPart
    ) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{unused.getsockname()[1]}/d.onnx"
            part = replace(detector, downloads=(Download(url, "d.onnx"),))
            with pytest.raises(
                UserError, match=r"^detector cannot be downloaded: .*refused.*models-pull detector --from"
            ):
                pull(part)

    def test_what_the_server_does_not_have_is_said(self, detector: PretrainedPart, site: Site) -> None:
        site.files.clear()
        with pytest.raises(UserError, match="detector cannot be downloaded: the server answers 404"):
            pull(detector)


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

    def test_a_folder_that_cannot_be_written_is_said(
        self, detector: PretrainedPart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").write_text("in the way")
        monkeypatch.setenv("AFFECT_MODELS", str(tmp_path / "file"))
        with pytest.raises(UserError, match=r"detector cannot be installed in .*file"):
            pull(detector)


class TestZips:
    @pytest.mark.parametrize(
        "name", ["../escaped", "/escaped", "a/../../escaped", "C:/escaped", "a/..\\..\\escaped"]
    )
    def test_entries_outside_are_refused(
        self, recogniser: PretrainedPart, site: Site, name: str, tmp_path: Path
    ) -> None:
        site.files["r.zip"] = zipped({"m/am/final.mdl": b"x", name: b"evil"})
        with pytest.raises(UserError, match="refused: its entry"):
            pull(recogniser)
        assert not list(tmp_path.rglob("*escaped*"))

    def test_links_are_refused(self, recogniser: PretrainedPart, site: Site) -> None:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            link = zipfile.ZipInfo("m/link")
            link.external_attr = 0o120777 << 16
            archive.writestr(link, "/etc/passwd")
        site.files["r.zip"] = buffer.getvalue()
        with pytest.raises(UserError, match="is a link"):
            pull(recogniser)

    def test_content_out_of_all_proportion_is_refused(self, recogniser: PretrainedPart, site: Site) -> None:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("m/zeros", bytes(105_000_000))
        site.files["r.zip"] = buffer.getvalue()
        with pytest.raises(UserError, match="unpacks to more than 104 MB"):
            pull(recogniser)

    def test_a_truncated_zip_is_refused(self, recogniser: PretrainedPart, site: Site) -> None:
        site.files["r.zip"] = site.files["r.zip"][:-30]
        with pytest.raises(UserError, match="not a sound zip"):
            pull(recogniser)

    def test_a_model_without_its_files_is_refused(self, recogniser: PretrainedPart, site: Site) -> None:
        site.files["r.zip"] = zipped({"m/am/final.mdl": b"x"})
        with pytest.raises(UserError, match=r"is not recogniser: it has no conf/model\.conf"):
            pull(recogniser)


def test_two_pulls_of_one_part_do_not_meet(detector: PretrainedPart, folder: Path) -> None:
    (folder / ".downloads" / "detector").mkdir(parents=True)
    with (
        parts.FileLock(folder / ".downloads" / "detector.lock"),
        pytest.raises(UserError, match="another models-pull"),
    ):
        pull(detector)
