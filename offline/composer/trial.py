"""One composed trial: its episodes, its face, its voice and its words, through the extractors into a store."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from models.audio.logmel import RollingPatches
from models.bundle.manifest import GIVEN_WORDS, FeatureRecipe, PartUse
from models.spec import CROP_SPECS, Modality, WindowSpec
from models.speech.words import Settled, SpeechEvent
from offline.composer.episodes import draw_episodes
from offline.composer.faces import FaceTrack, draw_faces, draw_shots
from offline.composer.perceived import perceive, perceive_partly
from offline.composer.voices import (
    SAMPLE_RATE,
    draw_utterances,
    mix_sound,
    mouth_track,
    voice_channel,
    words_channel,
)
from offline.composer.words import speech_events
from offline.data.arrays import write_rows
from offline.data.store import TRIAL, TrialFacts
from offline.data.trial_writer import TrialWriter
from offline.files import replacing_folder
from stream.perception.features import Availability, FrameFeatures

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from offline.composer.material import Material
    from offline.composer.plan import ComposedTrial, ComposePlan
    from offline.data.extractors import Extractors

REVISION: Final = 3
"""Counts up whenever the same plan and material no longer give the same trials."""


@dataclass(frozen=True, eq=False)
class Composition:
    """A trial before it is written: N frames of faces, the sound (n,), what is said, the labels (N, 2), and those of
    who is told of some modalities only, `partial_labels` (N, 8, 2).
    """

    faces: FaceTrack
    sound: NDArray[np.float32]
    events: tuple[SpeechEvent, ...]
    labels: NDArray[np.float32]
    partial_labels: NDArray[np.float32]
    frame_rate: float


def compose_recipe(detector: PartUse, text_encoder: PartUse) -> FeatureRecipe:
    """The features of composed trials, as the `practical` preset has them."""
    return FeatureRecipe(
        frame_rate=WindowSpec().frame_rate,
        crop=CROP_SPECS["practical"],
        detector=detector,
        recogniser=PartUse(name=GIVEN_WORDS),
        text_encoder=text_encoder,
    )


def compose(
    trial: ComposedTrial, plan: ComposePlan, material: Material, recipe: FeatureRecipe
) -> Composition:
    """Draws a trial; the same arguments give the same one."""
    random = np.random.default_rng((plan.seed, trial.part, trial.number))
    frame_rate = recipe.frame_rate
    frames = round(plan.trial_s * frame_rate)
    episodes = draw_episodes(plan.trial_s, material.pictures.feelings, random)
    utterances = draw_utterances(episodes, material.sentences, material.comments, random)
    sound = mix_sound(utterances, plan.trial_s, random)
    shots = draw_shots(episodes, material.pictures, random)
    talking = mouth_track(utterances, frames, frame_rate)
    faces = draw_faces(shots, material.pictures, talking, frame_rate, recipe.crop, random)
    channels = {
        Modality.VISUAL: faces.channel,
        Modality.AUDIO: voice_channel(utterances, frames, frame_rate),
        Modality.LANGUAGE: words_channel(utterances, frames, frame_rate),
    }
    events = (*speech_events(utterances), Settled(math.inf))
    labels = perceive(channels, frame_rate)
    partial = perceive_partly(channels, frame_rate, labels)
    return Composition(faces, sound, events, labels, partial, frame_rate)


def write_composition(
    trial: ComposedTrial, fingerprint: str, composition: Composition, extractors: Extractors, store: Path
) -> TrialFacts:
    """A composition as a trial of the store: its folder appears whole or not at all. Raises OSError."""
    folder = store / trial.partition / trial.name
    with replacing_folder(folder, beside=store) as staged:
        staged.mkdir()
        with TrialWriter(staged, extractors, None, composition.labels) as writer:
            for index, features in enumerate(frame_features(composition, extractors.parts.recipe)):
                writer.add(features, composition.events if index == 0 else ())
            writer.add(None, ())
            writer.finish(1 / composition.frame_rate)
        write_rows(staged / "partial_labels.npy", composition.partial_labels)
        facts = TrialFacts(
            name=trial.name,
            partition=trial.partition,
            subject=trial.subject,
            video=f"{trial.name}.composed",
            frames=writer.frames,
            frame_rate=composition.frame_rate,
            annotated=writer.annotated,
            with_face=sum(writer.faces),
            crop_source="distributed",
            has_sound=True,
            fingerprint=fingerprint,
        )
        (staged / TRIAL).write_text(facts.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return facts


def frame_features(composition: Composition, recipe: FeatureRecipe) -> Iterator[FrameFeatures]:
    """The frames as the live engine's perception would give them: the patch of a frame ends at the frame."""
    patches = RollingPatches(recipe.logmel)
    state = patches.initial_state()
    heard = 0
    for index, crop in enumerate(composition.faces.crops):
        time_s = index / composition.frame_rate
        now = int(time_s * SAMPLE_RATE)
        if now > heard:
            state = patches.step(state, heard, composition.sound[heard:now])
            heard = now
        yield FrameFeatures(
            index=index,
            time_s=time_s,
            captured_at=0.0,
            crop=crop,
            patch=patches.patch_ending_at(state, now),
            face=bool(composition.faces.channel.active[index]),
            available=Availability(),
        )


def trial_fingerprint(trial: ComposedTrial, plan: ComposePlan, material_hash: str) -> str:
    """What a trial is made from, so that one that is there need not be made again."""
    facts = [REVISION, plan.seed, plan.trial_s, asdict(trial), material_hash]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
