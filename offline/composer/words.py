"""The words of a composed trial, as a recogniser that makes no mistake would give them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.speech.words import SpeechEvent, VoiceDecided, Word, WordsRevised

if TYPE_CHECKING:
    from collections.abc import Sequence

    from offline.composer.voices import Utterance

_PAUSE = 0.15
"""Of a word's time, the part in which nothing is said."""


def speech_events(utterances: Sequence[Utterance]) -> list[SpeechEvent]:
    """Each utterance's voice, and its words, closed, spread over it by their length; none if not understood."""
    events: list[SpeechEvent] = []
    for number, utterance in enumerate(utterances):
        events.append(VoiceDecided(utterance.start_s, utterance.end_s, True, True))
        if utterance.comment is None:
            continue
        texts = utterance.comment.words
        letters = [len(text) + 2 for text in texts]
        lasts_s = utterance.end_s - utterance.start_s
        now_s = utterance.start_s
        words: list[Word] = []
        for text, size in zip(texts, letters, strict=True):
            takes_s = lasts_s * size / sum(letters)
            words.append(Word(text, now_s, now_s + takes_s * (1 - _PAUSE), 1.0))
            now_s += takes_s
        events.append(WordsRevised(number, tuple(words), closed=True))
    return events
