"""Stores of tiny trials whose every modality carries the label, and an untrained trunk for them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from models.audio.vggish import Vggish
from models.bundle.manifest import FeatureRecipe, PartUse
from models.spec import COMPACT, NetworkSpec
from models.visual.backbone import Backbone
from offline.data.arrays import write_rows
from offline.data.store import STORE, TRIAL, StoreManifest, TrialFacts
from offline.training.pretrained import PretrainedEncoders, save_pretrained

if TYPE_CHECKING:
    from pathlib import Path

RECIPE = FeatureRecipe(
    detector=PartUse(name="haar"),
    recogniser=PartUse(name="vosk-tiny"),
    text_encoder=PartUse(name="bert-base-uncased"),
)


def _spoken(times: Any, valence: Any, arousal: Any) -> list[list[dict[str, Any]]]:
    """A word every fifth of a second, in utterances of two: how it is by valence, then by arousal."""
    utterances = []
    for at in range(0, len(times) - 12, 12):
        texts = "happy" if valence[at] > 0 else "sad", "excited" if arousal[at + 6] > 0 else "calm"
        spans = [(times[at + 6 * i], times[at + 6 * i + 6]) for i in range(2)]
        utterances.append(
            [
                {"text": text, "start_s": a, "end_s": b, "confidence": 1.0}
                for text, (a, b) in zip(texts, spans, strict=True)
            ]
        )
    return utterances


def write_trial(
    store: Path,
    name: str,
    partition: str,
    subject: str,
    *,
    frames: int = 60,
    language_width: int = 48,
    audio_width: int | None = None,
    seed: int = 0,
    labelled: bool = True,
) -> None:
    """A trial whose brightness, loudness and words follow its valence and arousal, through noise."""
    random = np.random.default_rng(seed)
    t = np.arange(frames) / 30
    phases, rates = random.uniform(0, 2 * np.pi, 2), random.uniform(0.5, 2.0, 2)
    labels = (0.8 * np.sin(2 * np.pi * rates * t[:, None] + phases)).astype(np.float32)
    valence, arousal = labels.T.copy()
    folder = store / partition / name
    folder.mkdir(parents=True)
    crops = np.full((frames, 48, 48, 3), 128.0)
    crops[:, :24] += 90 * valence[:, None, None, None]
    crops[:, 24:] += 90 * arousal[:, None, None, None]
    crops += random.normal(0, 6, crops.shape)
    ends = (96 + np.arange(frames) * 10 // 3).astype(np.int32)
    seen = np.searchsorted(ends, np.arange(ends[-1]) + 1).clip(0, frames - 1)
    log_mel = random.normal(-1, 0.3, (ends[-1], 64))
    log_mel[:, :32] += 1.5 * valence[seen, None]
    log_mel[:, 32:] += 1.5 * arousal[seen, None]
    language = random.normal(0, 0.3, (frames, language_width))
    language[:, : language_width // 2] += valence[:, None]
    language[:, language_width // 2 :] += arousal[:, None]
    language[frames // 3 : frames // 2] = 0
    if not labelled:
        labels[:] = np.nan
    labels[5:8] = np.nan
    write_rows(folder / "crops.npy", crops.clip(0, 255).astype(np.uint8))
    write_rows(folder / "faces.npy", np.ones(frames, bool))
    write_rows(folder / "times.npy", t)
    write_rows(folder / "logmel.npy", log_mel.astype(np.float32))
    write_rows(folder / "patch_ends.npy", ends)
    write_rows(folder / "language.npy", language.astype(np.float32))
    write_rows(folder / "labels.npy", labels)
    if audio_width is not None:
        audio = random.normal(0, 0.3, (frames, audio_width)) + arousal[:, None]
        write_rows(folder / "audio.npy", audio.astype(np.float32))
    (folder / "words.json").write_text(json.dumps(_spoken(t, valence, arousal)))
    facts = TrialFacts(
        name=name,
        partition=partition,  # type: ignore[arg-type]
        subject=subject,
        video=f"{name}.mp4",
        frames=frames,
        frame_rate=30.0,
        annotated=frames - 3,
        with_face=frames,
        crop_source="detected",
        has_sound=True,
    )
    (folder / TRIAL).write_text(facts.model_dump_json())


def write_store(
    store: Path,
    *,
    people: int = 5,
    trials: int = 2,
    validation: int = 2,
    frames: int = 60,
    language_width: int = 48,
    audio_width: int | None = None,
) -> Path:
    """A store of `people` with `trials` trials each to train on, and one more person to validate on."""
    store.mkdir(parents=True)
    encoder = None if audio_width is None else PartUse(name="vggish")
    recipe = RECIPE.model_copy(update={"audio_encoder": encoder})
    (store / STORE).write_text(StoreManifest(recipe=recipe).model_dump_json())
    plan = [(f"p{p}-{i}", "train", f"p{p}") for p in range(people) for i in range(trials)]
    plan += [(f"v-{i}", "validation", "v") for i in range(validation)]
    for seed, (name, partition, subject) in enumerate(plan):
        write_trial(
            store,
            name,
            partition,
            subject,
            # Lengths differ, as they do in the world.
            frames=frames + 7 * (seed % 3),
            language_width=language_width,
            audio_width=audio_width,
            seed=seed,
        )
    return store


def write_trunk(path: Path, spec: NetworkSpec = COMPACT) -> Path:
    """A foundation with random weights."""
    assert spec.visual is not None
    assert spec.audio is not None
    torch.manual_seed(1)
    backbone, encoder = Backbone(spec.visual.backbone).eval(), Vggish(spec.audio.encoder).eval()
    save_pretrained(path, PretrainedEncoders(backbone, encoder, RECIPE, {"source": "random"}))
    return path
