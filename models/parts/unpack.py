"""Downloaded content put into a part's folder: unpacked or copied, checked, without pickles.

Nothing is written outside the folder, nothing grows without bound, nothing executes.
"""

from __future__ import annotations

import shutil
import stat
import tempfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from models.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_FETCH_AGAIN: Final = "fetch it again from where it is published"


def unpack_zip(archive: Path, folder: Path, *, most_bytes: int) -> None:
    """Unpack a zip into `folder` (made here); a single folder at its top is taken off.

    Raises UserError for a file that is not a sound zip, for entries that are links or whose path would lie
    outside, and for content over `most_bytes`.
    """
    try:
        with zipfile.ZipFile(archive) as zipped:
            entries = [info for info in zipped.infolist() if not info.is_dir()]
            paths = [_inner_path(archive, info) for info in entries]
            if sum(info.file_size for info in entries) > most_bytes:
                raise UserError(
                    f"{archive} unpacks to more than {most_bytes // 10**6} MB: not what it should be; {_FETCH_AGAIN}"
                )
            tops = {path.parts[0] for path in paths}
            strip = len(tops) == 1 and all(len(path.parts) > 1 for path in paths)
            for info, path in zip(entries, paths, strict=True):
                target = folder.joinpath(*path.parts[1:] if strip else path.parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                with zipped.open(info) as source, target.open("xb") as copy:
                    shutil.copyfileobj(source, copy, 1 << 20)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as e:
        raise UserError(f"{archive} is not a sound zip file: {e}; {_FETCH_AGAIN}") from e
    except FileExistsError as e:
        raise UserError(
            f"{archive} holds the file {e.filename} twice: not a sound zip file; {_FETCH_AGAIN}"
        ) from e


def _inner_path(archive: Path, info: zipfile.ZipInfo) -> PurePosixPath:
    path = PurePosixPath(info.filename)
    outside = path.is_absolute() or ".." in path.parts or any(c in info.filename for c in "\\:\0")
    if outside or not path.parts:
        raise UserError(
            f"{archive} is refused: its entry '{info.filename}' would lie outside the folder; {_FETCH_AGAIN}"
        )
    if stat.S_ISLNK(info.external_attr >> 16):
        raise UserError(f"{archive} is refused: its entry '{info.filename}' is a link; {_FETCH_AGAIN}")
    return path


def copy_files(source: Path, folder: Path, names: Iterable[str] | None) -> None:
    """Copy the named files that a folder has, links followed; all of it where `names` is None."""
    if names is None:
        shutil.copytree(source, folder, dirs_exist_ok=True)
        return
    for name in names:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)


def copy_nested(
    source: Path, folder: Path, names: Iterable[str], must_have: Sequence[str], *, most_bytes: int
) -> None:
    """Copy the named files of the folder inside `source` (a folder, a zip or a wheel) that has all of `must_have`.

    Nothing is copied where there is none. Raises UserError where there are several, or for a zip as `unpack_zip`
    does.
    """
    if source.is_file():
        with tempfile.TemporaryDirectory(prefix=".unpacked-", dir=folder.parent) as unpacked:
            unpack_zip(source, Path(unpacked), most_bytes=most_bytes)
            copy_nested(Path(unpacked), folder, names, must_have, most_bytes=most_bytes)
        return
    found = [
        path.parent
        for path in sorted(source.rglob(must_have[0]))
        if all((path.parent / name).is_file() for name in must_have)
    ]
    if source in found:
        found = [source]
    if len(found) > 1:
        raise UserError(f"{source} holds several that fit ({', '.join(map(str, found))}): give one of them")
    if found:
        copy_files(found[0], folder, names)


def without_pickle(path: Path) -> Path:
    """A `.pth` file made into safetensors beside it, so that loading it can never execute; others as they
    are.

    Read with `weights_only=True`; what is not a tensor is left behind. Raises UserError where it cannot be
    read so, or holds no tensor.
    """
    if path.suffix != ".pth":
        return path
    from safetensors.torch import save
    from torch import Tensor

    from models.parts.checkpoint import read_checkpoint

    _, content = read_checkpoint(path)
    tensors = {name: value.contiguous() for name, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise UserError(f"{path.name} is refused: it holds no tensors; {_FETCH_AGAIN}")
    converted = path.with_suffix(".safetensors")
    converted.write_bytes(save(tensors))
    path.unlink()
    return converted
