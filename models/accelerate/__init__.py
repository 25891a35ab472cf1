"""Eager, torch.compile, OpenVINO, TensorRT, CUDA: a bundle's parts made fast, each checked before it serves.

`accelerate` makes a runner of one module. `serve` makes a `Served` of a bundle: each part on the most exact
route that is quick enough, and only on one that agreed with eager on the bundle's own probe input.
"""

from __future__ import annotations

from models.accelerate.cache import ArtifactCache, default_cache_folder
from models.accelerate.choice import Preference, serve
from models.accelerate.route import (
    BACKENDS,
    EAGER,
    PRECISIONS,
    Backend,
    Precision,
    Route,
    Runner,
    Unavailable,
    Workshop,
)
from models.accelerate.run import accelerate
from models.accelerate.served import AUDIO, TEXT, VISUAL, PartReport, Served

__all__ = [
    "AUDIO",
    "BACKENDS",
    "EAGER",
    "PRECISIONS",
    "TEXT",
    "VISUAL",
    "ArtifactCache",
    "Backend",
    "PartReport",
    "Precision",
    "Preference",
    "Route",
    "Runner",
    "Served",
    "Unavailable",
    "Workshop",
    "accelerate",
    "default_cache_folder",
    "serve",
]
