"""Published checkpoints: read without executing anything, copied tensor by tensor, each one accounted for."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from models.errors import UserError


@dataclass(frozen=True)
class CheckpointReport:
    """What became of a checkpoint's tensors, by name.

    `taken` are now in the network (its own names); `left` stayed in the checkpoint (the checkpoint's names),
    each with the reason; `missing` are the network's tensors that the checkpoint did not fill.
    """

    taken: tuple[str, ...]
    left: Mapping[str, str]
    missing: tuple[str, ...]


def read_checkpoint(source: str | Path | Mapping[str, object]) -> tuple[str, dict[str, object]]:
    """A checkpoint's name for messages, and its tensors by name.

    `source` is a state dict, a `.safetensors` file or a `torch.save` file (read with `weights_only=True`, so
    that nothing in it executes); a state dict wrapped as `state_dict`, `model_state_dict` or `model` is
    unwrapped. Raises UserError for a file that is absent or cannot be read as what its name says.
    """
    if isinstance(source, Mapping):
        return "the state dict", _unwrap(dict(source))
    path = Path(source)
    if not path.is_file():
        raise UserError(
            f"{path} does not exist or is not a file", way_out="give a .pth or .safetensors checkpoint"
        )
    try:
        content = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except (
        SafetensorError,
        pickle.UnpicklingError,
        RuntimeError,
        OSError,
        EOFError,
        ValueError,
        KeyError,
    ) as e:
        raise UserError(
            f"{path} cannot be read as a checkpoint, damaged or more than plain tensors",
            way_out="give another",
        ) from e
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds no state dict but a {type(content).__name__}", way_out="give another")
    return str(path), _unwrap(dict(content))


def load_tensors(
    module: nn.Module,
    tensors: Mapping[str, object],
    what: str,
    *,
    prefix: str = "",
    optional: Mapping[str, str] | None = None,
) -> CheckpointReport:
    """Copy `tensors` (names under `prefix`) into `module`; nothing is changed unless everything is sound.

    `optional` maps the beginning of layers' names to the reason for which a layer is left out whole when any
    of its shapes differ. Raises UserError where any other shape differs, a value is not finite, or nothing
    fits at all.
    """
    own = module.state_dict()
    taken: dict[str, Tensor] = {}
    left: dict[str, str] = {}
    unfit: set[str] = set()
    for name, value in tensors.items():
        inner = name.removeprefix(prefix)
        if not isinstance(value, Tensor):
            left[name] = "not a tensor"
        elif inner not in own or not name.startswith(prefix):
            left[name] = "the network has no such tensor"
        elif value.shape != own[inner].shape:
            layer = next((layer for layer in optional or {} if inner.startswith(layer)), None)
            if layer is None:
                raise UserError(
                    f"{what} does not fit: {name} has shape {tuple(value.shape)}, "
                    f"the network's is {tuple(own[inner].shape)}",
                    way_out="give one of that network",
                )
            unfit.add(layer)
        elif value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise UserError(
                f"{what} is unusable: {name} holds NaN or infinite values", way_out="give another"
            )
        else:
            taken[inner] = value
    for layer in unfit:
        taken = {inner: value for inner, value in taken.items() if not inner.startswith(layer)}
        left |= {n: (optional or {})[layer] for n in tensors if n.removeprefix(prefix).startswith(layer)}
    if not taken:
        raise UserError(
            f"{what} does not fit: none of its tensors is one of the network's",
            way_out="give one of that network",
        )
    with torch.no_grad():
        for inner, value in taken.items():
            own[inner].copy_(value)
    missing = tuple(n for n in own if n not in taken and not n.endswith("num_batches_tracked"))
    return CheckpointReport(tuple(taken), left, missing)


def _unwrap(content: dict[str, object]) -> dict[str, object]:
    for key in ("state_dict", "model_state_dict", "model"):
        inner = content.get(key)
        if isinstance(inner, Mapping):
            return dict(inner)
    return content
