"""What is said in a composed trial, as a recogniser that makes no mistake would give it."""

from __future__ import annotations

import numpy as np
import pytest

from models.speech.words import VoiceDecided, WordsRevised
from offline.composer.material import Comment
from offline.composer.voices import SAMPLE_RATE, Utterance
from offline.composer.words import speech_events

FEELING = np.zeros(2, np.float32)


def utterance(start_s: float, words: tuple[str, ...] | None) -> Utterance:
    comment = None if words is None else Comment(words, FEELING)
    return Utterance(start_s, np.zeros(2 * SAMPLE_RATE, np.float32), FEELING, comment)


def test_words_are_spread_over_the_utterance_by_their_length() -> None:
    _, said = speech_events([utterance(1.0, ("a", "wonderful", "day"))])
    assert isinstance(said, WordsRevised)
    assert said.closed
    assert [word.text for word in said.words] == ["a", "wonderful", "day"]
    assert said.words[0].start_s == 1.0
    assert said.words[-1].end_s <= 3.0
    lasts = [word.end_s - word.start_s for word in said.words]
    assert lasts[0] < lasts[2] < lasts[1]


def test_a_voice_is_heard_whose_words_are_not_understood() -> None:
    (voice,) = speech_events([utterance(1.0, None)])
    assert isinstance(voice, VoiceDecided)
    assert (voice.start_s, voice.end_s) == pytest.approx((1.0, 3.0))
    assert voice.gate_open
