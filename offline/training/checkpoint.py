"""What training must remember to go on after a kill as if nothing had happened.

A checkpoint is one safetensors file (`offline.files.save_tensors`): tensors, and everything else as JSON in its
header. One file means one rename, so weights, optimiser, random states and schedule can never be of different epochs.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch.optim import Optimizer

    from offline.files import Json


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
