"""What each kind of material is to the bundle: what a live source would have been."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from models.errors import UserError
from models.spec import WindowSpec
from models.speech.words import EVERYTHING_SETTLED, Settled, SpeechEvent, Word, WordsRevised
from models.visual.detectors import HaarDetector
from models.visual.tracker import FaceTracker
from offline.judging.clips import estimate_clip, find_clips
from offline.judging.faces import estimate_face
from offline.judging.live_path import JudgeOptions, LivePath
from offline.judging.material import read_faces, read_voices
from offline.judging.texts import WORD_S, estimate_text, utter
from offline.judging.voices import estimate_voice
from offline.people.canvas import HEIGHT, SHOWN_SIDE, WIDTH, show_on_canvas
from offline.prediction.replay import replay
from stream.build import load
from stream.estimation.estimator import Estimator
from stream.options import InputOptions
from stream.perception.features import Availability, FrameFeatures, Perception
from stream.sources.events import VideoFrame
from tests.offline.judging.made import faces, voice, write_sound

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stream.messages import Estimate


def step_all(
    estimator: Estimator, frames: Sequence[tuple[FrameFeatures, Sequence[SpeechEvent]]]
) -> list[Estimate]:
    """Frame by frame, as a live source settles."""
    settled: list[Estimate] = []
    state = estimator.initial_state()
    for features, events in frames:
        state, answer = estimator.step(state, features, events)
        settled += answer.settled
    return [*settled, *estimator.step(state, None, (EVERYTHING_SETTLED,))[1].settled]


def values(estimates: Sequence[Estimate]) -> np.ndarray:
    return np.array([(e.value.valence, e.value.arousal) for e in estimates])


def test_a_picture_is_in_the_middle_of_a_frame() -> None:
    picture = faces()[0]
    frame = show_on_canvas(picture)
    assert frame.shape == (HEIGHT, WIDTH, 3)
    assert frame.dtype == np.uint8
    assert (frame[:, :, 0] == frame[:, :, 2]).all()
    top, left = (HEIGHT - SHOWN_SIDE) // 2, (WIDTH - SHOWN_SIDE) // 2
    middle = frame[top : top + SHOWN_SIDE, left : left + SHOWN_SIDE, 0]
    shown = cv2.resize(picture, (SHOWN_SIDE, SHOWN_SIDE), interpolation=cv2.INTER_CUBIC)
    assert (middle == shown).all()
    assert np.array_equal(frame, show_on_canvas(picture))
    (face, *_) = HaarDetector().detect(frame)
    assert left < face.box[0] < left + SHOWN_SIDE / 2


def test_a_picture_is_two_seconds_of_a_camera_without_microphone(path: LivePath) -> None:
    perception = Perception(FaceTracker(HaarDetector()))
    state, frames = perception.initial_state(), []
    for index in range(60):
        picture = VideoFrame(index, index / 30, 0.0, show_on_canvas(faces()[0]), repeated=index > 0)
        state, features = perception.step(state, picture, Availability(audio=False, language=False))
        frames.append((features, () if index else (Settled(float("inf")),)))
    live = step_all(Estimator(path.bundle, None), frames)
    assert len(live) == 60
    found = estimate_face(path, faces()[0])
    assert (found.frames, found.present) == (30, True)
    assert np.allclose(found.centered, values(live)[30:].mean(axis=0), atol=1e-5)
    folds = np.array([[(f.valence, f.arousal) for f in e.folds] for e in live[30:]])
    assert np.allclose(found.folds_mean, folds.mean(axis=1).clip(-1, 1).mean(axis=0), atol=1e-5)
    assert np.allclose(found.folds_spread, folds.std(axis=1).mean(axis=0), atol=1e-5)


def test_a_picture_is_judged_alone(path: LivePath) -> None:
    before = estimate_face(path, faces()[0])
    other = estimate_face(path, faces()[1])
    again = estimate_face(path, faces()[0])
    assert np.array_equal(before.centered, again.centered)
    assert not np.array_equal(before.centered, other.centered)


def test_no_face_is_said_so_and_answered_in_one_way(path: LivePath) -> None:
    found = [estimate_face(path, np.full((48, 48), level, np.uint8)) for level in (90, 200)]
    assert [f.present for f in found] == [False, False]
    assert np.array_equal(found[0].centered, found[1].centered)


def test_a_voice_counts_while_the_gate_is_open(path: LivePath, tmp_path: Path) -> None:
    silence = np.zeros(16_000, np.float32)
    sound = write_sound(tmp_path / "a.wav", np.concatenate([silence, voice()]))
    found = estimate_voice(path, sound)
    assert found.present
    assert 30 <= found.frames < 65, "not the silence before it"
    assert np.isfinite(found.centered).all()
    louder = estimate_voice(path, write_sound(tmp_path / "b.wav", voice()))
    assert not np.array_equal(found.centered, louder.centered)


def test_silence_is_no_voice(path: LivePath, tmp_path: Path) -> None:
    found = estimate_voice(path, write_sound(tmp_path / "a.wav", np.zeros(16_000, np.float32)))
    assert (found.present, found.frames) == (False, 30)


def test_words_are_cut_where_the_transcriber_would_cut() -> None:
    events = utter([f"w{i}" for i in range(7)], longest_s=3 * WORD_S)
    assert all(isinstance(event, WordsRevised) and event.closed for event in events)
    words = [event.words for event in events if isinstance(event, WordsRevised)]
    assert [len(some) for some in words] == [3, 3, 1]
    assert words[1][0] == Word("w3", 3 * WORD_S, 4 * WORD_S, 1.0)
    assert utter([], 8.0) == []


def test_words_known_from_the_start_settle_as_words_that_come(path: LivePath) -> None:
    """A live recogniser reveals them one by one and closes the utterance at its end."""
    words = ["i", "am", "so", "happy", "today"]
    spoken = tuple(Word(text, i * WORD_S, (i + 1) * WORD_S, 1.0) for i, text in enumerate(words))
    frames: list[tuple[FrameFeatures, Sequence[SpeechEvent]]] = []
    closed = False
    for index in range(round((len(words) * WORD_S + 0.5) * 30)):
        time_s, events = index / 30, list[SpeechEvent]()
        heard = tuple(word for word in spoken if word.end_s <= time_s)
        if not closed:
            closed = heard == spoken
            events.append(WordsRevised(0, heard, closed=closed))
        if closed:
            events.append(Settled(time_s))
        crop, patch = np.zeros((48, 48, 3), np.uint8), np.zeros((96, 64), np.float32)
        masked = Availability(visual=False, audio=False)
        frames.append((FrameFeatures(index, time_s, 0.0, crop, patch, False, masked), events))
    live = step_all(path.estimator_with_words, frames)
    found = estimate_text(path, words)
    assert (found.frames, found.present) == (len(frames), True)
    assert np.allclose(found.centered, values(live).mean(axis=0), atol=1e-5)


def test_longer_texts_than_the_window_and_no_words_at_all(path: LivePath) -> None:
    long = estimate_text(path, ["well"] * 60)
    assert long.frames == round((60 * WORD_S + 0.5) * 30) > WindowSpec().length
    nothing = estimate_text(path, [])
    assert not nothing.present
    assert np.isfinite(nothing.centered).all()


def test_a_clip_is_what_the_engine_makes_of_it(fixtures: Path) -> None:
    clip = fixtures / "clips" / "1001_DFA_NEU_XX.flv"
    found = estimate_clip(JudgeOptions("demo", detector="haar"), clip)
    parts = load(InputOptions(source=str(clip), bundle="demo", pace="fast", detector="haar"))
    replayed = replay(parts)
    assert found.frames == len(replayed.times)
    assert np.allclose(found.centered, replayed.value.mean(axis=0))
    assert found.present


def test_clips_are_found_by_name_and_in_folders(tmp_path: Path) -> None:
    for name in ("b.mp4", "a.MPG", "notes.txt"):
        (tmp_path / name).touch()
    found = find_clips((tmp_path / "b.mp4", tmp_path))
    assert [path.name for path in found] == ["b.mp4", "a.MPG"]
    with pytest.raises(UserError, match="does not exist"):
        find_clips((tmp_path / "c.mp4",))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no recording"):
        find_clips((tmp_path / "empty",))


def test_real_faces_are_found(path: LivePath, people: Path) -> None:
    material = read_faces(people / "ferplus-validation.npz", limit=12)
    found = [estimate_face(path, item) for item in material.items]
    assert sum(f.present for f in found) >= 6


def test_a_real_voice_is_heard(path: LivePath, people: Path) -> None:
    (recording,) = read_voices(people / "emodb", limit=1).items
    assert estimate_voice(path, recording).present
