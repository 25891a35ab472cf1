"""Tensors as files: safetensors with a state as JSON in their header, so that nothing in them can execute."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from models.errors import UserError
from offline.files import Json, reason, replacing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

_STATE: Final = "state"
_WAY_OUT: Final = "give another file, or remove it and make it anew"


def save_tensors(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write tensors, and `state` as JSON in their file's header, whole or not at all."""
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    with replacing(path) as file:
        file.write(save(plain, {_STATE: json.dumps(state, allow_nan=False)}))


def load_tensors(path: Path, *, way_out: str = _WAY_OUT) -> tuple[dict[str, Tensor], Json]:
    """Read what `save_tensors` wrote.

    Raises UserError, with what is to be done then, where the file is absent, damaged, or holds other things.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist or is not a file", way_out=way_out)
    try:
        with safe_open(path, framework="pt") as file:
            state = json.loads((file.metadata() or {})[_STATE])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError, RecursionError) as e:
        raise UserError(
            f"{path} is damaged or is no checkpoint of ours ({reason(e)})", way_out=way_out
        ) from e
    if not isinstance(state, dict):
        raise UserError(f"{path} is damaged or is no checkpoint of ours", way_out=way_out)
    return tensors, state
