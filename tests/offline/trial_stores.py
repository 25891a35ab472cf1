"""Small stores of random features, as offline-preprocess lays them out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from offline.data.arrays import write_rows
from offline.data.store import STORE, TRIAL, Partition, Store, StoreManifest, TrialFacts

if TYPE_CHECKING:
    from pathlib import Path

    from models.bundle.manifest import FeatureRecipe

RATE = 30.0


@dataclass(frozen=True)
class Made:
    """A trial to make: `labelled` is the share of its frames with a label."""

    name: str
    partition: Partition = "validation"
    frames: int = 40
    labelled: float = 1.0
    has_sound: bool = True
    subject: str = ""


def write_store(folder: Path, recipe: FeatureRecipe, trials: list[Made], *, width: int = 48) -> Store:
    """A store of these trials; `width` is the word vectors'."""
    folder.mkdir(parents=True)
    (folder / STORE).write_text(StoreManifest(recipe=recipe).model_dump_json(), encoding="utf-8")
    for number, made in enumerate(trials):
        write_trial(folder, made, seed=number, width=width)
    return Store.open(folder)


def write_trial(store: Path, made: Made, *, seed: int, width: int) -> None:
    random = np.random.default_rng(seed)
    n = made.frames
    folder = store / made.partition / made.name
    folder.mkdir(parents=True)
    crops = random.integers(0, 256, (n, 48, 48, 3), np.uint8)
    crops[n // 3 : n // 2] = 0
    labels = np.stack([np.sin(np.arange(n) / 7 + seed), np.cos(np.arange(n) / 9)], 1).astype(np.float32) * 0.8
    labels[round(n * made.labelled) :] = np.nan
    vectors = random.normal(0, 1, (n, width)).astype(np.float32)
    vectors[: n // 4] = 0
    steps = np.arange(n) * 3 + 96
    arrays = {
        "crops": crops,
        "times": np.arange(n) / RATE,
        "faces": np.arange(n) % 5 > 0,
        "logmel": random.normal(-3, 1, (int(steps[-1]), 64)).astype(np.float32),
        "patch_ends": steps.astype(np.int32),
        "language": vectors,
        "labels": labels,
    }
    for name, rows in arrays.items():
        write_rows(folder / f"{name}.npy", rows)
    (folder / "words.json").write_text("[]", encoding="utf-8")
    facts = TrialFacts(
        name=made.name,
        partition=made.partition,
        subject=made.subject or made.name,
        video=f"{made.name}.mp4",
        frames=n,
        frame_rate=RATE,
        annotated=int((~np.isnan(labels[:, 0])).sum()),
        with_face=n,
        crop_source="detected",
        has_sound=made.has_sound,
    )
    (folder / TRIAL).write_text(facts.model_dump_json(), encoding="utf-8")
