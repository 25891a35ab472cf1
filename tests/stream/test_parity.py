"""Settled equals offline: the engine's settled estimates of real recordings, a real recogniser listening, against
what is computed offline, in one pass, by code that knows nothing of streams.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from models.centering import RunningCentering
from models.spec import WindowSpec
from models.speech.timeline import WordTimeline
from models.speech.transcriber import Transcriber
from models.speech.words import VoiceDecided, WordsRevised
from models.text.embedder import TextEmbedder
from models.visual.alignment import network_input
from models.visual.tracker import FaceTracker
from offline.prediction.predict import Prediction, predict_trials
from offline.prediction.replay import extract
from stream.build import LoadedParts, assemble, load
from stream.options import DEMO_BUNDLE, DEMO_RECORDING, InputOptions
from stream.perception.features import Availability, Perception
from stream.perception.speech import transcriber_settings
from stream.sources.events import AudioChunk, VideoFrame
from tests.stream.scripted import Collected

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from stream.messages import Estimate

TOLERANCE = 1e-4
CLIPS = ["weekly_address_5s.mp4", "lbax4n.mpg", "1001_DFA_HAP_XX.flv", "face_noface.mov"]


def parts_of(recording: Path) -> LoadedParts:
    return load(InputOptions(str(recording), bundle=DEMO_BUNDLE, pace="fast", recogniser="vosk-tiny"))


async def stream(recording: Path) -> Collected:
    """The recording through the whole engine."""
    seen = Collected()
    await assemble(parts_of(recording), [seen], pace="fast").run()
    return seen


@dataclass(frozen=True)
class Plain:
    """One pass over everything there is: values (N, 2), folds (F, N, 2), and the word said at each frame."""

    value: NDArray[np.float64]
    folds: NDArray[np.float64]
    words: list[str]
    faces: list[bool]


def compute(recording: Path) -> Plain:
    """The whole recording's features first, then its final words, then the ensemble over all of it at once."""
    parts = parts_of(recording)
    bundle, source = parts.bundle, parts.source
    perception = Perception(FaceTracker(parts.detector))
    state = perception.initial_state()
    frames, sound = [], []
    for event in source.events():
        if isinstance(event, AudioChunk):
            state, _ = perception.step(state, event)
            sound.append(event)
        elif isinstance(event, VideoFrame):
            state, features = perception.step(state, event, Availability())
            frames.append(features)

    settings = transcriber_settings(WindowSpec().length, source.info.frame_rate)
    assert parts.new_recogniser is not None
    transcriber = Transcriber(parts.new_recogniser, settings)
    said = [e for chunk in sound for e in transcriber.feed(chunk.start_sample, chunk.samples)]
    said += transcriber.finish()
    timeline = WordTimeline(horizon_s=1e6)
    for spoken in said:
        if isinstance(spoken, VoiceDecided) or (isinstance(spoken, WordsRevised) and spoken.closed):
            timeline, _ = timeline.step(spoken)

    assert bundle.text_encoder_folder is not None
    assert bundle.audio_encoder is not None
    embedder = TextEmbedder(bundle.text_encoder_folder)
    language = np.zeros((len(frames), bundle.ensemble.spec.language.embedding), np.float32)  # type: ignore[union-attr]
    words = []
    for i, features in enumerate(frames):
        placed = timeline.word_at(features.time_s)
        words.append("" if placed is None else placed.word.text)
        if placed is not None:
            language[i] = embedder.embed(placed.texts)[placed.index]

    with torch.inference_mode():
        crops = torch.from_numpy(network_input(np.stack([f.crop for f in frames])))
        audio = bundle.audio_encoder(torch.from_numpy(np.stack([f.patch for f in frames])))
        outputs = bundle.ensemble(crops[None], audio[None], torch.from_numpy(language)[None])
    folds = outputs[:, 0].double().numpy()
    centering = RunningCentering(len(folds), WindowSpec().length, 2)
    merging, merged = centering.initial_state(), []
    for t in range(len(frames)):
        merging, frame = centering.step(merging, folds[:, t].T)
        merged.append(frame.value)
    return Plain(np.clip(merged, -1, 1), folds, words, [f.face for f in frames])


def values(estimates: list[Estimate]) -> NDArray[np.float64]:
    return np.array([(e.value.valence, e.value.arousal) for e in estimates])


def check(settled: list[Estimate], plain: Plain) -> None:
    assert [e.frame for e in settled] == list(range(len(plain.words))), "the same frames"
    assert [e.words for e in settled] == plain.words, "the same words"
    assert [e.present.face for e in settled] == plain.faces
    folds = np.array([[(f.valence, f.arousal) for f in e.folds] for e in settled])
    assert np.abs(folds.transpose(1, 0, 2) - plain.folds).max() < TOLERANCE
    assert np.abs(values(settled) - plain.value).max() < TOLERANCE


@pytest.mark.parametrize("clip", CLIPS)
async def test_settled_equals_one_pass_over_the_whole_recording(fixtures: Path, clip: str) -> None:
    seen = await stream(fixtures / "clips" / clip)
    check(seen.settled, compute(fixtures / "clips" / clip))


@pytest.mark.parametrize("clip", CLIPS[:3])
async def test_settled_equals_offline_prediction_from_extracted_features(
    fixtures: Path, tmp_path: Path, clip: str
) -> None:
    recording = fixtures / "clips" / clip
    seen = await stream(recording)
    parts = parts_of(recording)
    trial = extract(recording, parts, tmp_path, None)
    prediction: Prediction = predict_trials(parts.bundle, [trial], ("stream",), ()).whole["stream"][0]
    assert len(seen.settled) == len(prediction.times)
    assert [e.time_s for e in seen.settled] == pytest.approx(prediction.times.tolist(), abs=1e-6)
    assert np.abs(values(seen.settled) - prediction.value).max() < TOLERANCE


@pytest.mark.slow
async def test_late_words_are_provisional_first_and_settle_equal_to_offline_far_beyond_a_window() -> None:
    """The demo recording: 32 s of a voice that the shipped recogniser understands."""
    seen = await stream(DEMO_RECORDING)
    plain = compute(DEMO_RECORDING)
    check(seen.settled, plain)
    assert len(plain.words) > 3 * WindowSpec().length
    assert sum(map(bool, plain.words)) > 0.2 * len(plain.words)
    late = [
        (before, after)
        for before, after in zip(seen.provisional, seen.settled, strict=True)
        if after.words and not before.words
    ]
    assert len(late) > 20, "words became known after their frames"
    moved = [
        abs(before.value.valence - after.value.valence) + abs(before.value.arousal - after.value.arousal)
        for before, after in late
    ]
    assert np.median(moved) > TOLERANCE, "and changed what had been said of them"
    closed = [t for t in seen.transcripts if t.settled]
    revised = [t for t in seen.transcripts if not t.settled]
    assert closed
    assert revised
