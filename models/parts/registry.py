"""Pretrained parts: which there are, and which are installed on this machine.

A part lives in its own folder under the models folder (`AFFECT_MODELS`, else the platform's data folder)
with a `part.json` that records what was installed. Its hash is pinned where it is known beforehand, else
recorded at the first pull (`models.parts.install`); a part whose content differs is refused from then on.

A file part's hash is that file's SHA-256; a folder part's is over its sorted (relative path, file's SHA-256)
pairs.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

import platformdirs

from models.errors import SetupError, UserError
from models.files import file_hash, file_hashes, tree_hash

RECORD: Final = "part.json"
SHIPPED: Final = Path(__file__).parent.parent / "assets"


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


def _vosk_part(name: str, purpose: str, megabytes: int) -> PretrainedPart:
    return PretrainedPart(
        name=name,
        purpose=purpose,
        licence="Apache-2.0",
        kind="zip",
        downloads=(Download(f"https://alphacephei.com/vosk/models/{name}.zip", f"{name}.zip"),),
        megabytes=megabytes,
        must_have=_VOSK_FILES,
    )


def _bert_part(name: str, purpose: str, megabytes: int) -> PretrainedPart:
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


def _whisper_part(name: str, purpose: str, megabytes: int) -> PretrainedPart:
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
    _vosk_part("vosk-model-small-en-us-0.15", "recogniser: English, light", 40),
    _vosk_part("vosk-model-en-us-0.22", "recogniser: English, the report's", 1_800),
    _whisper_part("whisper-tiny.en", "recogniser: English, by sentences (needs faster-whisper)", 78),
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
    _bert_part("bert-base-uncased", "text encoder of the paper preset", 440),
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
        raise _refusal(part, folder, f"its record says {record.sha256[:12]}, not {part.sha256[:12]}")
    verify(record)
    return record


def require_part(name: str | PretrainedPart) -> InstalledPart:
    """As `find_part`. Raises UserError, with the command that installs it, where it is not installed."""
    found = find_part(name)
    if found is None:
        part = get_part(name) if isinstance(name, str) else name
        raise SetupError(
            f"{part.name} ({part.purpose}) is not installed", way_out=f"run `{install_command(part.name)}`"
        )
    return found


def verify(installed: InstalledPart) -> None:
    """Hash the content again. Raises UserError, by name, where it is not what was installed."""
    part, folder = installed.part, installed.path if installed.part.kind != "file" else installed.path.parent
    try:
        found = content_hash(part, installed.path)
    except OSError as e:
        raise _refusal(part, folder, f"it cannot be read: {e.strerror}") from e
    if found != installed.sha256:
        raise _refusal(part, folder, f"its hash is {found[:12]}, not {installed.sha256[:12]}")


def install_command(name: str) -> str:
    """The command that installs a part."""
    return f"models-pull {name}"


def content_hash(part: PretrainedPart, path: Path) -> str:
    """SHA-256 of a part's file or folder. Raises OSError where it cannot be read."""
    if part.kind == "file":
        return file_hash(path)
    return tree_hash(file_hashes(path, leave_out=frozenset({RECORD})))


def write_record(installed: InstalledPart, folder: Path) -> None:
    """Write a part's `part.json` into its folder. Raises OSError where that cannot be done."""
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
        raise _refusal(part, folder, f"its {RECORD} is damaged") from e


def recorded_hash(part: PretrainedPart, folder: Path) -> str | None:
    """The hash that the `part.json` in a folder records; None where there is none or it is damaged."""
    try:
        return _read_record(part, folder).sha256 if (folder / RECORD).is_file() else None
    except UserError:
        return None


def _refusal(part: PretrainedPart, folder: Path, why: str) -> SetupError:
    return SetupError(
        f"{part.name} in {folder} is refused: {why}",
        way_out=f"install it again with `{install_command(part.name)}`",
    )
