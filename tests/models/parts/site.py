"""What a site publishes: the contents of small parts."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

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


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def plain_files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
