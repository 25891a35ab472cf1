"""Estimates: two answers a frame, the settled one a causal pass over final words whatever came when."""

from __future__ import annotations

from dataclasses import astuple, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.accelerate.runtime import Runtime
from models.accelerate.select import Preference, serve
from models.bundle.load import Bundle, load_bundle
from models.centering import RunningCentering
from models.spec import Modality
from models.speech.words import EVERYTHING_SETTLED, Settled, SpeechEvent, VoiceDecided, Word, WordsRevised
from models.text.embedder import TextEmbedder
from models.visual.alignment import network_input
from models.visual.tracker import FaceTracker
from stream.estimation.batching import Moment
from stream.estimation.estimator import Answer, Estimator
from stream.perception.features import Availability, FrameFeatures
from tests.stream.scripted import ScriptedDetector

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stream.messages import Estimate

FRAMES = 24
RATE = 30.0

GUESSED = (Word("i", 0.05, 0.12), Word("am", 0.12, 0.2), Word("sad", 0.2, 0.3))
FINAL = (Word("i", 0.06, 0.14, 1.0), Word("am", 0.14, 0.25, 1.0), Word("happy", 0.3, 0.5, 1.0))


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load_bundle("demo")


@pytest.fixture(scope="module")
def estimator(bundle: Bundle) -> Estimator:
    assert bundle.text_encoder_folder is not None
    return Estimator(bundle, TextEmbedder(bundle.text_encoder_folder), clock=lambda: 0.0)


@pytest.fixture(scope="module")
def frames() -> list[FrameFeatures]:
    random = np.random.default_rng(1)
    return [
        FrameFeatures(
            index=i,
            time_s=i / RATE,
            captured_at=0.0,
            crop=random.integers(0, 255, (48, 48, 3), np.uint8),
            patch=random.normal(-3, 1, (96, 64)).astype(np.float32),
            face=True,
            available=Availability(),
        )
        for i in range(FRAMES)
    ]


def run(
    estimator: Estimator, frames: Sequence[FrameFeatures], said: dict[int, Sequence[SpeechEvent]]
) -> tuple[list[Estimate], list[Estimate]]:
    """Provisional and settled estimates; `said[i]` are the events that come with frame i."""
    state = estimator.initial_state()
    provisional: list[Any] = []
    settled: list[Any] = []

    def keep(answer: Answer) -> None:
        if answer.provisional is not None:
            provisional.append(answer.provisional)
        settled.extend(answer.settled)

    for i, frame in enumerate(frames):
        state, answer = estimator.step(state, frame, said.get(i, ()))
        keep(answer)
    late = [event for i, events in sorted(said.items()) if i >= len(frames) for event in events]
    state, answer = estimator.step(state, None, late)
    keep(answer)
    state, answer = estimator.step(state, None, (EVERYTHING_SETTLED,))
    keep(answer)
    return provisional, settled


def spoken(guessed_at: int, final_at: int) -> dict[int, Sequence[SpeechEvent]]:
    said: dict[int, list[SpeechEvent]] = {0: [VoiceDecided(0.0, 0.6, True, True)]}
    said.setdefault(guessed_at, []).append(WordsRevised(0, GUESSED, closed=False))
    said.setdefault(final_at, []).extend([WordsRevised(0, FINAL, closed=True), Settled(0.6)])
    return said  # type: ignore[return-value]


def test_every_frame_settles_once_in_order(estimator: Estimator, frames: list[FrameFeatures]) -> None:
    provisional, settled = run(estimator, frames, spoken(8, 17))
    assert [e.frame for e in provisional] == list(range(FRAMES))
    assert [e.frame for e in settled] == list(range(FRAMES))
    assert all(e.settled for e in settled)
    assert not any(e.settled for e in provisional)


@pytest.mark.parametrize("settle_at_once", [1, 5])
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(guessed_at=st.integers(0, 12), late=st.integers(1, 20))
def test_settled_does_not_depend_on_when_words_came(
    bundle: Bundle, frames: list[FrameFeatures], settle_at_once: int, guessed_at: int, late: int
) -> None:
    assert bundle.text_encoder_folder is not None
    embedder = TextEmbedder(bundle.text_encoder_folder)
    estimator = Estimator(bundle, embedder, settle_at_once=settle_at_once, clock=lambda: 0.0)
    at_once: dict[int, Sequence[SpeechEvent]] = {
        0: [VoiceDecided(0.0, 0.6, True, True), WordsRevised(0, FINAL, closed=True), Settled(0.6)]
    }
    _, expected = run(estimator, frames, at_once)
    _, settled = run(estimator, frames, spoken(guessed_at, guessed_at + late))
    assert [e.to_record() for e in settled] == [e.to_record() for e in expected]
    assert [e.folds for e in settled] == [e.folds for e in expected], "to the last bit"


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(guessed_at=st.integers(0, 12), late=st.integers(1, 20), sizes=st.lists(st.integers(1, 9), min_size=24))
def test_a_few_frames_at_once_are_estimated_as_one_by_one(
    estimator: Estimator, frames: list[FrameFeatures], guessed_at: int, late: int, sizes: list[int]
) -> None:
    said = spoken(guessed_at, guessed_at + late)
    moments = [Moment(f, tuple(said.get(f.index, ()))) for f in frames]
    later = [event for i, events in sorted(said.items()) if i >= FRAMES for event in events]
    moments.append(Moment(None, tuple(later)))
    alone, settled_alone = run(estimator, frames, said)

    state = estimator.initial_state()
    together: list[Estimate] = []
    settled: list[Estimate] = []
    at = 0
    for size in sizes:
        batch = moments[at : at + size]
        at += size
        state, found = estimator.answer(state, batch)
        assert [e.frame for e in found] == [m.features.index for m in batch if m.features is not None]
        together += found
        state, done = estimator.settle(state)
        settled += done
        last = batch[-1].features if batch else None
        if last is not None:  # by then all that it was told is known either way
            assert found[-1].words == alone[last.index].words
            assert found[-1].value.valence == pytest.approx(alone[last.index].value.valence, abs=1e-5)
            assert found[-1].value.arousal == pytest.approx(alone[last.index].value.arousal, abs=1e-5)
    settled += estimator.step(state, None, (EVERYTHING_SETTLED,))[1].settled
    assert [e.frame for e in together] == list(range(FRAMES))
    for ours, theirs in zip(settled, settled_alone, strict=True):
        assert ours.words == theirs.words
        assert ours.present == theirs.present
        assert np.allclose(astuple(ours.value), astuple(theirs.value), atol=1e-5)
        assert np.allclose([astuple(f) for f in ours.folds], [astuple(f) for f in theirs.folds], atol=1e-5)


class Counting(Runtime):
    """An accelerated runtime that keeps count: what was asked for, and how many crops or patches."""

    def __init__(self, bundle: Bundle) -> None:
        self.inner = serve(bundle, preference=Preference("eager"))
        steps = self.inner.steps
        super().__init__(bundle.ensemble, visual=None, audio=None, text=None, steps=steps, reports=())
        self.calls: list[tuple[str, int]] = []

    def is_eager(self, part: str) -> bool:
        return False

    def embed_visual(self, crops: torch.Tensor) -> torch.Tensor:
        self.calls.append(("visual", len(crops)))
        return self.inner.embed_visual(crops)

    def start_audio(self, patches: torch.Tensor) -> Callable[[], torch.Tensor]:
        self.calls.append(("audio", len(patches)))
        return self.inner.start_audio(patches)


def test_what_is_the_same_in_a_batch_is_embedded_once_and_what_is_masked_not_at_all(
    bundle: Bundle, frames: list[FrameFeatures]
) -> None:
    def shows(i: int, crop: int, there: bool = True) -> FrameFeatures:
        available = Availability(visual=there, audio=i < 6)
        return replace(frames[i], crop=frames[crop].crop, available=available)

    shown = [shows(0, 0), shows(1, 0), shows(2, 2), shows(3, 2), shows(4, 2, False), shows(5, 2)]
    counting = Counting(bundle)
    ours = Estimator(bundle, None, runtime=counting, clock=lambda: 0.0)
    state, together = ours.answer(ours.initial_state(), [Moment(f, ()) for f in shown])
    assert counting.calls == [("audio", 6), ("visual", 3)], (
        "sound begun first; crops 0, 2, and 2 again after a frame without a camera"
    )
    state, _ = ours.answer(state, [Moment(shows(6, 2), ()), Moment(shows(7, 2), ())])
    assert len(counting.calls) == 2, "nothing new to see, nothing to hear"
    ours.answer(state, [Moment(shows(8, 8), ())])
    assert counting.calls[2:] == [("visual", 1)]
    plain = Estimator(bundle, None, clock=lambda: 0.0)
    state = plain.initial_state()
    for features, estimate in zip(shown, together, strict=True):
        state, (alone,) = plain.answer(state, [Moment(features, ())])
        assert np.allclose(astuple(estimate.value), astuple(alone.value), atol=1e-5)


def test_sound_that_was_begun_is_waited_for_where_sight_fails(
    bundle: Bundle, frames: list[FrameFeatures]
) -> None:
    class Failing(Counting):
        waited = 0

        def embed_visual(self, crops: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no sight")

        def start_audio(self, patches: torch.Tensor) -> Callable[[], torch.Tensor]:
            def wait() -> torch.Tensor:
                self.waited += 1
                return torch.zeros(len(patches), bundle.ensemble.embedding(Modality.AUDIO))

            return wait

    failing = Failing(bundle)
    ours = Estimator(bundle, None, runtime=failing, clock=lambda: 0.0)
    with pytest.raises(RuntimeError, match="no sight"):
        ours.answer(ours.initial_state(), [Moment(frames[0], ())])
    assert failing.waited == 1


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at_once=st.integers(1, 5), until=st.lists(st.integers(0, FRAMES), max_size=6), limit=st.integers(1, 9))
def test_something_can_settle_exactly_when_settling_gives_something(
    bundle: Bundle, frames: list[FrameFeatures], at_once: int, until: list[int], limit: int
) -> None:
    ours = Estimator(bundle, None, settle_at_once=at_once, window=8, clock=lambda: 0.0)
    state, marks = ours.initial_state(), sorted(until)
    for i, frame in enumerate(frames):
        said = [Settled(marks[i] / RATE)] if i < len(marks) else []
        state, _ = ours.answer(state, [Moment(frame, tuple(said))])
        for _ in range(2):
            expected = ours.can_settle(state)
            state, settled = ours.settle(state, limit)
            assert bool(settled) == expected


def test_frames_without_a_face_are_embedded_once(bundle: Bundle, frames: list[FrameFeatures]) -> None:
    tracker = FaceTracker(ScriptedDetector())
    track = tracker.initial_state()
    nobody = np.zeros((60, 80, 3), np.uint8)
    faceless = []
    for features in frames[:9]:
        track, seen = tracker.step(track, nobody)
        faceless.append(replace(features, crop=seen.crop, face=False, available=Availability(audio=False)))
    counting = Counting(bundle)
    ours = Estimator(bundle, None, runtime=counting, clock=lambda: 0.0)
    state, _ = ours.answer(ours.initial_state(), [Moment(f, ()) for f in faceless[:5]])
    for features in faceless[5:]:
        state, _ = ours.answer(state, [Moment(features, ())])
    assert counting.calls == [("visual", 1)]


def test_settled_is_the_window_computation_with_running_centering(
    bundle: Bundle, estimator: Estimator, frames: list[FrameFeatures]
) -> None:
    _, settled = run(estimator, frames, spoken(5, 16))
    assert bundle.text_encoder_folder is not None
    assert bundle.audio_encoder is not None
    vectors = TextEmbedder(bundle.text_encoder_folder).embed([w.text for w in FINAL])
    language = np.zeros((FRAMES, vectors.shape[1]), np.float32)
    for word, vector in zip(FINAL, vectors, strict=True):
        for i in range(FRAMES):
            if word.start_s <= i / RATE < word.end_s:
                language[i] = vector
    crops = torch.from_numpy(network_input(np.stack([f.crop for f in frames])))
    with torch.inference_mode():
        audio = bundle.audio_encoder(torch.from_numpy(np.stack([f.patch for f in frames])))
        outputs = bundle.ensemble(crops[None], audio[None], torch.from_numpy(language)[None])[:, 0].numpy()
    centering = RunningCentering(bundle.ensemble.folds, 300, 2)
    state = centering.initial_state()
    for i, estimate in enumerate(settled):
        state, merged = centering.step(state, outputs[:, i].T)
        assert np.allclose([(f.valence, f.arousal) for f in estimate.folds], outputs[:, i], atol=1e-5)
        value = np.clip(merged.value, -1, 1)
        assert np.allclose([estimate.value.valence, estimate.value.arousal], value, atol=1e-4)
        assert np.allclose([estimate.spread.valence, estimate.spread.arousal], merged.spread, atol=1e-4)


def test_late_words_change_the_provisional_answer_until_it_equals_the_settled_one(
    estimator: Estimator, frames: list[FrameFeatures]
) -> None:
    provisional, settled = run(estimator, frames, spoken(9, 18))
    silent, _ = run(estimator, frames, {})
    assert [e.value for e in provisional[:9]] == [e.value for e in silent[:9]], "no word was known yet"
    assert provisional[9].value != silent[9].value, "the early text came"
    for e, final in zip(provisional[18:], settled[18:], strict=True):
        assert e.value.valence == pytest.approx(final.value.valence, abs=1e-5)
        assert e.value.arousal == pytest.approx(final.value.arousal, abs=1e-5)
    assert abs(provisional[15].value.valence - settled[15].value.valence) > 1e-5


def test_the_future_is_not_read(estimator: Estimator, frames: list[FrameFeatures]) -> None:
    other = [
        f if f.index < 15 else replace(f, crop=255 - f.crop, patch=f.patch + 1.0, face=False) for f in frames
    ]
    _, ours = run(estimator, frames, spoken(5, 10))
    _, theirs = run(estimator, other, spoken(5, 10))
    assert [e.to_record() for e in ours[:15]] == [e.to_record() for e in theirs[:15]]
    assert ours[20].value != theirs[20].value


@pytest.mark.parametrize("gone", ["visual", "audio", "language"])
def test_an_input_that_is_gone_is_masked(
    estimator: Estimator, frames: list[FrameFeatures], gone: str
) -> None:
    masked = [replace(f, available=replace(f.available, **{gone: False})) for f in frames]
    noise = [replace(f, crop=255 - f.crop) if gone == "visual" else f for f in masked]
    noise = [replace(f, patch=f.patch * 3) if gone == "audio" else f for f in noise]
    _, settled = run(estimator, masked, spoken(5, 10))
    _, same = run(estimator, noise, spoken(5, 10))
    _, whole = run(estimator, frames, spoken(5, 10))
    assert all(np.isfinite([e.value.valence, e.value.arousal]).all() for e in settled)
    assert [e.to_record() for e in settled] == [e.to_record() for e in same], (
        "what is not there does not count"
    )
    assert settled[12].value != whole[12].value


def test_values_are_clipped_and_presence_is_reported(
    estimator: Estimator, frames: list[FrameFeatures]
) -> None:
    faceless = [replace(f, face=f.index % 2 == 0, crop=f.crop * 0) for f in frames]
    _, settled = run(estimator, faceless, spoken(5, 10))
    assert all(abs(e.value.valence) <= 1 and abs(e.value.arousal) <= 1 for e in settled)
    assert [e.present.face for e in settled] == [i % 2 == 0 for i in range(FRAMES)]
    said = [any(w.start_s <= i / RATE < w.end_s for w in FINAL) for i in range(FRAMES)]
    assert [e.present.words for e in settled] == said
    assert [e.present.voice for e in settled] == [i / RATE < 0.6 for i in range(FRAMES)]


def test_recentering_begins_the_merge_anew(estimator: Estimator, frames: list[FrameFeatures]) -> None:
    state = estimator.initial_state()
    for frame in frames[:10]:
        state, _ = estimator.step(state, frame, (Settled(float("inf")),) if frame.index == 0 else ())
    _, answer = estimator.step(estimator.recenter(state), frames[10])
    assert answer.provisional is not None
    assert answer.provisional.spread.valence == pytest.approx(0.0, abs=1e-12), "one frame has no spread"
