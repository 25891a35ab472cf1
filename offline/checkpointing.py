"""Files that a kill at any moment leaves whole, and what training must remember to go on as if nothing had happened.

A checkpoint is one safetensors file: tensors, and everything else as JSON in its header. One file means one rename,
so weights, optimiser, random states and schedule can never be of different epochs. Nothing in it can execute.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import psutil
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.optim import Optimizer

from models.errors import UserError

Json = dict[str, Any]
"""What JSON can say."""

_STATE = "state"
_UNFINISHED: Final = re.compile(r"\..+\.(\d{1,9})\.part")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes `path`'s place when it is on disk whole, and not before.

    Raises UserError where it cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
        _sync_folder(path.parent)
    except OSError as e:
        raise UserError(f"{path} cannot be written: {e.strerror or e}") from e
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()


def clear_unfinished(folder: Path, *, deep: bool = False) -> None:
    """Remove what processes that were killed while they wrote left in a folder, and in all below it where `deep`.

    Files of this machine's living processes stay, this one's too; so does what cannot be removed.
    """
    # Nothing needs these files gone: a folder that cannot be read says so where it is used.
    with contextlib.suppress(OSError):
        for path in folder.rglob("*") if deep else folder.iterdir():
            written = _UNFINISHED.fullmatch(path.name)
            if written is not None and not psutil.pid_exists(int(written[1])):
                path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with replacing(path) as file:
        file.write(text.encode())


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON, whole or not at all; NaN is refused with ValueError."""
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Json:
    """Read a JSON object. Raises UserError where the file is absent or is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except (OSError, ValueError, RecursionError) as e:
        raise UserError(f"{path} cannot be read: {e}") from e
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged: it holds no JSON object")
    return content


def save_array(path: Path, array: np.ndarray[Any, Any]) -> None:
    """Write a `.npy`, whole or not at all."""
    with replacing(path) as file:
        np.save(file, array, allow_pickle=False)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write tensors, and `state` as JSON in their file's header, whole or not at all."""
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    with replacing(path) as file:
        file.write(save(plain, {_STATE: json.dumps(state, allow_nan=False)}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], Json]:
    """Read what `save_tensors` wrote. Raises UserError where the file is absent, damaged, or holds other things."""
    if not path.is_file():
        raise UserError(f"{path} does not exist or is not a file")
    try:
        with safe_open(path, framework="pt") as file:
            state = json.loads((file.metadata() or {})[_STATE])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError, RecursionError) as e:
        raise UserError(f"{path} is damaged or is no checkpoint of ours: {_one_line(e)}") from e
    if not isinstance(state, dict):
        raise UserError(f"{path} is damaged or is no checkpoint of ours")
    return tensors, state


def optimizer_tensors(optimizer: Optimizer) -> tuple[dict[str, Tensor], Json]:
    """An optimiser's state as tensors by `optimizer/<parameter>/<name>`, and the rest as JSON."""
    content = optimizer.state_dict()
    tensors = {
        f"optimizer/{index}/{name}": value
        for index, slots in content["state"].items()
        for name, value in slots.items()
    }
    return tensors, {"groups": content["param_groups"]}


def restore_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor], rest: Json) -> None:
    """The reverse of `optimizer_tensors`. Raises ValueError where the state is of other parameters."""
    slots: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        room, _, name = key.partition("/")
        if room == "optimizer":
            index, _, slot = name.partition("/")
            slots.setdefault(int(index), {})[slot] = value
    groups = [{k: tuple(v) if k == "betas" else v for k, v in group.items()} for group in rest["groups"]]
    optimizer.load_state_dict({"state": slots, "param_groups": groups})


def seed_everything(seeds: Sequence[int]) -> np.random.Generator:
    """Begin every random state anew from some numbers; returns the loader's generator."""
    states = np.random.SeedSequence(seeds).generate_state(4)
    torch.manual_seed(int(states[0]))
    random.seed(int(states[1]))
    np.random.seed(int(states[2]))
    return np.random.default_rng(int(states[3]))


def random_tensors(generator: np.random.Generator) -> tuple[dict[str, Tensor], Json]:
    """Every random state: torch's (each CUDA device's too), Python's, numpy's global one, and the loader's."""
    tensors = {"random/torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors |= {f"random/cuda-{i}": s for i, s in enumerate(torch.cuda.get_rng_state_all())}
    version, internal, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    tensors["random/numpy"] = torch.from_numpy(np.asarray(keys, np.int64))
    return tensors, {
        "python": [version, list(internal), gauss],
        "numpy": [str(name), int(position), int(has_gauss), float(cached)],
        "loader": generator.bit_generator.state,
    }


def restore_random(generator: np.random.Generator, tensors: Mapping[str, Tensor], rest: Json) -> None:
    """The reverse of `random_tensors`; a CUDA device that is not there is passed over."""
    torch.set_rng_state(tensors["random/torch"])
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            if f"random/cuda-{i}" in tensors:
                torch.cuda.set_rng_state(tensors[f"random/cuda-{i}"], i)
    version, internal, gauss = rest["python"]
    random.setstate((version, tuple(internal), gauss))
    name, position, has_gauss, cached = rest["numpy"]
    keys = tensors["random/numpy"].numpy().astype(np.uint32)
    np.random.set_state((name, keys, position, has_gauss, cached))
    generator.bit_generator.state = rest["loader"]


def _sync_folder(folder: Path) -> None:
    # A rename is only on disk when its folder is; platforms that cannot open folders sync by themselves.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
