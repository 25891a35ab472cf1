"""Installing a pretrained part: downloaded or brought along, checked, and put in its place whole.

VGGish is published as a `.pth`, which could carry code: it is read once, here, with `weights_only=True`, and kept as
safetensors; its hash is of what is kept.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from models.errors import UserError
from models.files import put_in_place
from models.parts.download import Progress, download
from models.parts.local_folder import unreadable
from models.parts.registry import (
    RECORD,
    InstalledPart,
    PretrainedPart,
    content_hash,
    get_part,
    models_folder,
    recorded_hash,
    require_part,
    write_record,
)
from models.parts.unpack import copy_files, copy_nested, unpack_zip, without_pickle


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
            fetched = download(part, downloads, progress)
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
        if source is not None and e.filename is not None and Path(e.filename).is_relative_to(source):
            raise unreadable(Path(e.filename), e) from e
        raise UserError(
            f"{part.name} cannot be installed in {root}: {e.strerror or e}; name another folder in AFFECT_MODELS"
        ) from e


def _install(part: PretrainedPart, fetched: Path, origin: str) -> InstalledPart:
    """Put a part's content, a file or folder as published, in its place, if it is what it should be."""
    folder = models_folder() / part.name
    if not fetched.exists():
        raise UserError(f"{fetched} does not exist: give the file or folder that holds {part.name}")
    recorded = recorded_hash(part, folder)
    with tempfile.TemporaryDirectory(prefix=f".{part.name}-", dir=folder.parent) as temporary:
        staged = Path(temporary) / part.name
        staged.mkdir()
        path = (
            _stage_file(part, fetched, staged)
            if part.kind == "file"
            else _stage_folder(part, fetched, staged)
        )
        installed = InstalledPart(part, path, content_hash(part, path), origin)
        expected = part.sha256 or recorded
        if expected is not None and installed.sha256 != expected:
            way_out = (
                f"; fetch it again from {part.downloads[0].url}"
                if part.sha256
                else f", as first recorded here (remove {folder} to take it all the same)"
            )
            raise UserError(
                f"{part.name} from {origin} is refused: its hash is {installed.sha256[:12]}, "
                f"not {expected[:12]}{way_out}"
            )
        write_record(installed, staged)
        put_in_place(staged, folder, Path(temporary) / "before")
    return replace(installed, path=folder / path.relative_to(staged))


def _stage_file(part: PretrainedPart, fetched: Path, staged: Path) -> Path:
    name = part.downloads[0].name
    if fetched.is_dir():
        fetched = fetched / name
        if not fetched.is_file():
            raise UserError(f"{fetched.parent} is not {part.name}: it has no {name}; give the file itself")
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
        raise UserError(f"{fetched} is not {part.name}: it has no {', '.join(absent)}; fetch it again, whole")
    return staged
