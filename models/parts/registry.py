"""Pretrained parts: which there are, which are installed on this machine, and how they get here.

A part lives in its own folder under the models folder (`AFFECT_MODELS`, else the platform's data folder)
with a `part.json` that records what was installed. Its hash is pinned where it is known beforehand, else
recorded at the first pull; either way a part whose content differs is refused from then on, by name. `pull`
is the only thing in the project that reaches the network, and only when asked.

A file part's hash is that file's SHA-256; a folder part's is over its sorted (relative path, file's SHA-256)
pairs. VGGish is published as a `.pth`, which could carry code: it is read once, at the pull, with
`weights_only=True`, and kept as safetensors; its hash is of what is kept.
"""

from __future__ import annotations

import contextlib
import http
import http.client
import json
import os
import shutil
import ssl
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, Literal

import platformdirs
from filelock import FileLock, Timeout

from models.errors import UserError
from models.files import file_hash, file_hashes, put_in_place, tree_hash
from models.parts.unpack import copy_files, copy_nested, unpack_zip, without_pickle

RECORD: Final = "part.json"
SHIPPED: Final = Path(__file__).parent.parent / "assets"

_TIMEOUT_S: Final = 30.0
_ATTEMPTS: Final = 3

Progress = Callable[[str, int, int | None], None]
"""Called while downloading with the file's name, the bytes there are, and the bytes there will be if
known."""


@dataclass(frozen=True)
class Download:
    """One file at the place where it is officially published, and its name once here."""

    url: str
    name: str


@dataclass(frozen=True)
class PretrainedPart:
    """A pretrained part.

    `kind`: one `file`, a `zip` that unpacks to a folder, or a `folder` of the `downloads`. `must_have` are
    relative paths without which a folder is not this part. `sha256` is None where it is recorded at the first
    pull; `shipped` parts come with the package. `megabytes` is the rough size of the download. `nested` parts also
    come inside other people's packages: the one folder that has all of `must_have` is looked for in what is given.
    """

    name: str
    purpose: str
    licence: str
    kind: Literal["file", "zip", "folder"]
    downloads: tuple[Download, ...]
    megabytes: int
    must_have: tuple[str, ...] = ()
    sha256: str | None = None
    shipped: bool = False
    nested: bool = False


@dataclass(frozen=True)
class InstalledPart:
    """A part on this machine: `path` is its file, or its folder. `source` is where it came from."""

    part: PretrainedPart
    path: Path
    sha256: str
    source: str


_VOSK_FILES: Final = ("am/final.mdl", "conf/mfcc.conf", "conf/model.conf")


def _vosk(name: str, purpose: str, megabytes: int) -> PretrainedPart:
    return PretrainedPart(
        name=name,
        purpose=purpose,
        licence="Apache-2.0",
        kind="zip",
        downloads=(Download(f"https://alphacephei.com/vosk/models/{name}.zip", f"{name}.zip"),),
        megabytes=megabytes,
        must_have=_VOSK_FILES,
    )


def _bert(name: str, purpose: str, megabytes: int) -> PretrainedPart:
    files = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt")
    return PretrainedPart(
        name=name,
        purpose=purpose,
        licence="Apache-2.0",
        kind="folder",
        downloads=tuple(
            Download(f"https://huggingface.co/google-bert/{name}/resolve/main/{f}", f) for f in files
        ),
        megabytes=megabytes,
        must_have=("config.json", "model.safetensors", "vocab.txt"),
    )


def _whisper(name: str, purpose: str, megabytes: int) -> PretrainedPart:
    files = ("config.json", "model.bin", "tokenizer.json", "vocabulary.txt")
    return PretrainedPart(
        name=name,
        purpose=purpose,
        licence="MIT",
        kind="folder",
        downloads=tuple(
            Download(f"https://huggingface.co/Systran/faster-{name}/resolve/main/{f}", f) for f in files
        ),
        megabytes=megabytes,
        must_have=files,
        nested=True,
    )


_REGISTRY: Final = (
    PretrainedPart(
        name="vosk-tiny",
        purpose="recogniser of the demo: 272 English words of synthetic voices",
        licence="Apache-2.0",
        kind="folder",
        downloads=(),
        megabytes=3,
        must_have=_VOSK_FILES,
        shipped=True,
    ),
    _vosk("vosk-model-small-en-us-0.15", "recogniser: English, light", 40),
    _vosk("vosk-model-en-us-0.22", "recogniser: English, the report's", 1_800),
    _whisper("whisper-tiny.en", "recogniser: English, by sentences (needs faster-whisper)", 78),
    PretrainedPart(
        name="yunet",
        purpose="face detector: small, turned and dark faces too",
        licence="MIT",
        kind="file",
        downloads=(
            Download(
                "https://media.githubusercontent.com/media/opencv/opencv_zoo/main/models/face_detection_yunet/"
                "face_detection_yunet_2023mar.onnx",
                "face_detection_yunet_2023mar.onnx",
            ),
        ),
        megabytes=1,
        sha256="8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
    ),
    PretrainedPart(
        name="vggish",
        purpose="audio encoder of the paper preset",
        licence="Apache-2.0",
        kind="file",
        downloads=(
            Download(
                "https://github.com/harritaylor/torchvggish/releases/download/v0.1/vggish-10086976.pth",
                "vggish.pth",
            ),
        ),
        megabytes=290,
    ),
    _bert("bert-base-uncased", "text encoder of the paper preset", 440),
)

PARTS: Final[dict[str, PretrainedPart]] = {part.name: part for part in _REGISTRY}


def models_folder() -> Path:
    """Where parts are installed: `AFFECT_MODELS`, else the platform's data folder."""
    chosen = os.environ.get("AFFECT_MODELS")
    if chosen:
        return Path(chosen).expanduser()
    return platformdirs.user_data_path("affectstream", appauthor=False) / "models"


def get_part(name: str) -> PretrainedPart:
    """The registered part. Raises UserError, naming those there are."""
    if name not in PARTS:
        raise UserError(f"there is no part '{name}': choose from {', '.join(PARTS)}")
    return PARTS[name]


def find_part(name: str | PretrainedPart) -> InstalledPart | None:
    """The part as installed here, checked against its hash, or None where it is not installed.

    Raises UserError for an unknown name, or where what is installed is damaged or altered.
    """
    part = get_part(name) if isinstance(name, str) else name
    if part.shipped:
        folder = SHIPPED / part.name
        return InstalledPart(part, folder, tree_hash(file_hashes(folder)), "shipped with the package")
    folder = models_folder() / part.name
    if not (folder / RECORD).is_file():
        return None
    record = _read_record(part, folder)
    if part.sha256 is not None and part.sha256 != record.sha256:
        raise UserError(
            _refused(part, folder, f"its record says {record.sha256[:12]}, not {part.sha256[:12]}")
        )
    verify(record)
    return record


def require_part(name: str | PretrainedPart) -> InstalledPart:
    """As `find_part`. Raises UserError, with the command that installs it, where it is not installed."""
    found = find_part(name)
    if found is None:
        part = get_part(name) if isinstance(name, str) else name
        raise UserError(f"{part.name} ({part.purpose}) is not installed: run `{install_command(part.name)}`")
    return found


def verify(installed: InstalledPart) -> None:
    """Hash the content again. Raises UserError, by name, where it is not what was installed."""
    part, folder = installed.part, installed.path if installed.part.kind != "file" else installed.path.parent
    try:
        found = _content_hash(part, installed.path)
    except OSError as e:
        raise UserError(_refused(part, folder, f"it cannot be read: {e.strerror}")) from e
    if found != installed.sha256:
        raise UserError(_refused(part, folder, f"its hash is {found[:12]}, not {installed.sha256[:12]}"))


def install_command(name: str) -> str:
    """The command that installs a part."""
    return f"models-pull {name}"


def pull(
    name: str | PretrainedPart, *, source: Path | None = None, progress: Progress | None = None
) -> InstalledPart:
    """Install a part: downloaded, or from `source`, a file or folder that was fetched elsewhere.

    A part that is installed and sound is left as it is. One that is damaged is installed again and held to
    the hash recorded before. An interrupted download goes on where it stopped. Raises UserError where the
    part cannot be had, is not what it should be, or differs from its hash; then nothing that was installed
    has changed.
    """
    part = get_part(name) if isinstance(name, str) else name
    if part.shipped:
        raise UserError(f"{part.name} is shipped with the package: there is nothing to install")
    root = models_folder()
    downloads = root / ".downloads" / part.name
    try:
        downloads.mkdir(parents=True, exist_ok=True)
        with FileLock(downloads.with_suffix(".lock"), timeout=0):
            if source is not None:
                return _install(part, source, str(source.resolve()))
            with contextlib.suppress(UserError):
                return require_part(part)
            fetched = _download(part, downloads, progress)
            try:
                installed = _install(part, fetched, part.downloads[0].url)
            except UserError:
                shutil.rmtree(downloads)
                raise
            shutil.rmtree(downloads)
            return installed
    except Timeout:
        raise UserError(f"another models-pull is busy with {part.name}: let it finish") from None
    except OSError as e:
        raise UserError(f"{part.name} cannot be installed in {root}: {e.strerror or e}") from e


def _install(part: PretrainedPart, fetched: Path, origin: str) -> InstalledPart:
    """Put a part's content, a file or folder as published, in its place, if it is what it should be."""
    folder = models_folder() / part.name
    if not fetched.exists():
        raise UserError(f"{fetched} does not exist: give the file or folder that holds {part.name}")
    recorded = _recorded_hash(part, folder)
    with tempfile.TemporaryDirectory(prefix=f".{part.name}-", dir=folder.parent) as temporary:
        staged = Path(temporary) / part.name
        staged.mkdir()
        path = (
            _stage_file(part, fetched, staged)
            if part.kind == "file"
            else _stage_folder(part, fetched, staged)
        )
        installed = InstalledPart(part, path, _content_hash(part, path), origin)
        expected = part.sha256 or recorded
        if expected is not None and installed.sha256 != expected:
            way_out = (
                "" if part.sha256 else f", as first recorded here (remove {folder} to take it all the same)"
            )
            raise UserError(
                f"{part.name} from {origin} is refused: its hash is {installed.sha256[:12]}, "
                f"not {expected[:12]}{way_out}"
            )
        _write_record(installed, staged)
        put_in_place(staged, folder, Path(temporary) / "before")
    return replace(installed, path=folder / path.relative_to(staged))


def _stage_file(part: PretrainedPart, fetched: Path, staged: Path) -> Path:
    name = part.downloads[0].name
    if fetched.is_dir():
        fetched = fetched / name
        if not fetched.is_file():
            raise UserError(f"{fetched.parent} is not {part.name}: it has no {name}")
    suffix = fetched.suffix if fetched.suffix == ".safetensors" else Path(name).suffix
    path = (staged / name).with_suffix(suffix)
    shutil.copyfile(fetched, path)
    return without_pickle(path)


def _stage_folder(part: PretrainedPart, fetched: Path, staged: Path) -> Path:
    if part.nested:
        copy_nested(
            fetched,
            staged,
            [d.name for d in part.downloads],
            part.must_have,
            most_bytes=(4 * part.megabytes + 100) * 10**6,
        )
    elif fetched.is_dir():
        copy_files(fetched, staged, [d.name for d in part.downloads] if part.kind == "folder" else None)
        (staged / RECORD).unlink(missing_ok=True)
    elif part.kind == "zip":
        unpack_zip(fetched, staged, most_bytes=(4 * part.megabytes + 100) * 10**6)
    else:
        raise UserError(f"{fetched} is not {part.name}: give the folder that holds its files")
    absent = [needed for needed in part.must_have if not (staged / needed).is_file()]
    if absent:
        raise UserError(f"{fetched} is not {part.name}: it has no {', '.join(absent)}")
    return staged


def _download(part: PretrainedPart, folder: Path, progress: Progress | None) -> Path:
    """Fetch all of a part's files: the file, or the folder that holds them."""
    for download in part.downloads:
        if not (folder / download.name).is_file():
            _fetch(part, download, folder, progress or (lambda *_: None))
    return folder if part.kind == "folder" else folder / part.downloads[0].name


def _fetch(part: PretrainedPart, download: Download, folder: Path, progress: Progress) -> None:
    """Fetch one file, going on where an earlier attempt stopped if the server still has the same one."""
    partial, validator = (folder / f"{download.name}.{suffix}" for suffix in ("part", "validator"))
    why = ""
    for _ in range(_ATTEMPTS):
        headers = {"User-Agent": "affectstream"}
        have = partial.stat().st_size if partial.is_file() and validator.is_file() else 0
        if have:
            headers |= {"Range": f"bytes={have}-", "If-Range": validator.read_text(encoding="utf-8")}
        try:
            with urllib.request.urlopen(
                urllib.request.Request(download.url, headers=headers), timeout=_TIMEOUT_S
            ) as response:
                if response.status != http.HTTPStatus.PARTIAL_CONTENT:
                    have = 0
                length = response.headers["Content-Length"]
                total = have + int(length) if length else None
                _keep_validator(validator, response.headers)
                with partial.open("ab" if have else "wb") as file:
                    progress(download.name, have, total)
                    while chunk := response.read(1 << 16):
                        file.write(chunk)
                        have += len(chunk)
                        progress(download.name, have, total)
        except urllib.error.HTTPError as e:
            if e.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise _unreachable(part, download, f"the server answers {e.code} {e.reason}") from e
            partial.unlink()
            continue
        except urllib.error.URLError as e:
            raise _unreachable(part, download, str(e.reason)) from e
        except (http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError) as e:
            why = f"the connection broke off ({e or type(e).__name__})"
            continue
        if total is None or have == total:
            partial.rename(folder / download.name)
            validator.unlink(missing_ok=True)
            return
        why = f"the connection ended after {have} of {total} bytes"
    raise _unreachable(part, download, f"{why}; the next models-pull goes on from there")


def _keep_validator(validator: Path, headers: http.client.HTTPMessage) -> None:
    """Remember what proves that a later answer is about the same bytes (RFC 9110, 13.1.5): never a weak
    tag."""
    tag = headers["ETag"]
    proof = tag if tag and not tag.startswith("W/") else headers["Last-Modified"]
    if proof:
        validator.write_text(proof, encoding="utf-8")
    else:
        validator.unlink(missing_ok=True)


def _unreachable(part: PretrainedPart, download: Download, why: str) -> UserError:
    return UserError(
        f"{part.name} cannot be downloaded: {why}. Without a network, fetch {download.url} elsewhere and run "
        f"`{install_command(part.name)} --from FILE`"
    )


def _content_hash(part: PretrainedPart, path: Path) -> str:
    if part.kind == "file":
        return file_hash(path)
    return tree_hash(file_hashes(path, leave_out=frozenset({RECORD})))


def _write_record(installed: InstalledPart, folder: Path) -> None:
    record = {
        "name": installed.part.name,
        "file": installed.path.name if installed.part.kind == "file" else None,
        "sha256": installed.sha256,
        "source": installed.source,
        "licence": installed.part.licence,
        "downloads": [asdict(download) for download in installed.part.downloads],
    }
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _read_record(part: PretrainedPart, folder: Path) -> InstalledPart:
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        path = folder
        if part.kind == "file":
            path = folder / record["file"]
            if path.parent != folder or path.name in ("", ".", ".."):
                raise ValueError(record["file"])
        return InstalledPart(part, path, str(record["sha256"]), str(record["source"]))
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise UserError(_refused(part, folder, f"its {RECORD} is damaged")) from e


def _recorded_hash(part: PretrainedPart, folder: Path) -> str | None:
    try:
        return _read_record(part, folder).sha256 if (folder / RECORD).is_file() else None
    except UserError:
        return None


def _refused(part: PretrainedPart, folder: Path, why: str) -> str:
    return f"{part.name} in {folder} is refused: {why}; install it again with `{install_command(part.name)}`"
