"""A bundle's files: written with their hashes, read only if they still have them, put into modules whole."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from models.bundle.manifest import COPY_AGAIN, BundleFile
from models.errors import UserError
from models.files import file_hash

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> BundleFile:
    """Write tensors as safetensors. Raises OSError where that cannot be done."""
    path.write_bytes(save({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}))
    return BundleFile(name=path.name, sha256=file_hash(path))


def read_tensors(folder: Path, file: BundleFile) -> dict[str, Tensor]:
    """Read safetensors whose bytes are those of the manifest.

    Raises UserError where the file is absent, altered or truncated, or holds NaN or infinite values.
    """
    path = folder / file.name
    content = read_checked(folder, file)
    try:
        tensors: dict[str, Tensor] = load(content)
    except (SafetensorError, ValueError, KeyError) as e:
        raise UserError(f"{path} is not a sound safetensors file: {e}; {COPY_AGAIN}") from e
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise UserError(f"{path} is unusable: {name} holds NaN or infinite values; {COPY_AGAIN}")
    return tensors


def read_checked(folder: Path, file: BundleFile) -> bytes:
    """A file's bytes. Raises UserError where it is absent or its hash is not the manifest's."""
    path = folder / file.name
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"the bundle in {folder} is damaged: {file.name} is missing; {COPY_AGAIN}") from None
    except OSError as e:
        raise UserError(f"{path} cannot be read: {e.strerror or e}; {COPY_AGAIN}") from e
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        raise UserError(
            f"{path} is damaged or altered: its hash is {found[:12]}, the manifest says "
            f"{file.sha256[:12]}; {COPY_AGAIN}"
        )
    return content


def fill(module: nn.Module, tensors: Mapping[str, Tensor], what: str) -> None:
    """Put tensors into a module: all of it, and nothing else.

    Raises UserError, beginning with `what`, where one is missing, unknown, or of another shape or type.
    """
    own = module.state_dict()
    for name in sorted(own.keys() | tensors.keys()):
        if name not in tensors:
            raise UserError(f"{what} does not match the bundle's spec: {name} is missing; {COPY_AGAIN}")
        if name not in own:
            raise UserError(f"{what} does not match the bundle's spec: unknown tensor {name}; {COPY_AGAIN}")
        want, have = own[name], tensors[name]
        if want.shape != have.shape or want.dtype != have.dtype:
            raise UserError(
                f"{what} does not match the bundle's spec: "
                f"{name} is {_describe(have)} and should be {_describe(want)}; {COPY_AGAIN}"
            )
    module.load_state_dict(dict(tensors))


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
