"""A site that publishes parts, the parts on it, and an empty folder to install them in."""

from __future__ import annotations

import hashlib
import http.server
import re
import threading
from typing import TYPE_CHECKING

import pytest

from models.parts.registry import (
    Download,
    PretrainedPart,
)
from tests.models.parts.site import ONNX, VOSK, Site, zipped

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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
