"""Downloading a part's files; an interrupted download goes on where it stopped.

This is the only place in the project that reaches out to the network for files, and only when the user asks.
"""

from __future__ import annotations

import http
import http.client
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from models.errors import UserError
from models.parts.registry import Download, PretrainedPart, install_command

if TYPE_CHECKING:
    from pathlib import Path

_TIMEOUT_S: Final = 30.0
_ATTEMPTS: Final = 3

Progress = Callable[[str, int, int | None], None]
"""Called while downloading with the file's name, the bytes there are, and the bytes there will be if
known."""


def download(part: PretrainedPart, folder: Path, progress: Progress | None) -> Path:
    """Fetch all of a part's files into `folder`: returns the file, or the folder that holds them.

    Raises UserError where the server cannot be reached or the connection keeps breaking off; what has come until
    then is kept, and the next call goes on from there.
    """
    for file in part.downloads:
        if not (folder / file.name).is_file():
            _fetch(part, file, folder, progress or (lambda *_: None))
    return folder if part.kind == "folder" else folder / part.downloads[0].name


def _fetch(part: PretrainedPart, source: Download, folder: Path, progress: Progress) -> None:
    """Fetch one file, going on where an earlier attempt stopped if the server still has the same one."""
    partial, validator = (folder / f"{source.name}.{suffix}" for suffix in ("part", "validator"))
    why = ""
    for _ in range(_ATTEMPTS):
        headers = {"User-Agent": "affectstream"}
        have = partial.stat().st_size if partial.is_file() and validator.is_file() else 0
        if have:
            headers |= {"Range": f"bytes={have}-", "If-Range": validator.read_text(encoding="utf-8")}
        try:
            # The address comes from the registry of parts, never from a user.
            request = urllib.request.Request(source.url, headers=headers)  # noqa: S310
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:  # noqa: S310
                if response.status != http.HTTPStatus.PARTIAL_CONTENT:
                    have = 0
                length = response.headers["Content-Length"]
                total = have + int(length) if length else None
                _keep_validator(validator, response.headers)
                with partial.open("ab" if have else "wb") as file:
                    progress(source.name, have, total)
                    while chunk := response.read(1 << 16):
                        file.write(chunk)
                        have += len(chunk)
                        progress(source.name, have, total)
        except urllib.error.HTTPError as e:
            if e.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise _download_error(part, source, f"the server answers {e.code} {e.reason}") from e
            partial.unlink()
            continue
        except urllib.error.URLError as e:
            raise _download_error(part, source, str(e.reason)) from e
        except (http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError) as e:
            why = f"the connection broke off ({e or type(e).__name__})"
            continue
        if total is None or have == total:
            partial.rename(folder / source.name)
            validator.unlink(missing_ok=True)
            return
        why = f"the connection ended after {have} of {total} bytes"
    raise _download_error(part, source, f"{why}; the next models-pull goes on from there")


def _keep_validator(validator: Path, headers: http.client.HTTPMessage) -> None:
    """Remember what proves that a later answer is about the same bytes (RFC 9110, 13.1.5).

    Never a weak tag.
    """
    tag = headers["ETag"]
    proof = tag if tag and not tag.startswith("W/") else headers["Last-Modified"]
    if proof:
        validator.write_text(proof, encoding="utf-8")
    else:
        validator.unlink(missing_ok=True)


def _download_error(part: PretrainedPart, source: Download, why: str) -> UserError:
    return UserError(
        f"{part.name} cannot be downloaded: {why}. Without a network, fetch {source.url} elsewhere and run "
        f"`{install_command(part.name)} --from FILE`"
    )
