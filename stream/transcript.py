"""Recognised words on their way out: they leave the process only where the user asked for it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from models.language.words import WordsRevised
from stream.messages import SCHEMA


@dataclass(frozen=True)
class TranscriptWord:
    """One word: its text, when it was said (media seconds), how sure the recogniser is (0 to 1, or None)."""

    text: str
    start_s: float
    end_s: float
    confidence: float | None = None


@dataclass(frozen=True)
class Transcript:
    """One utterance as far as it is known; it replaces what was said about the same `utterance` before.

    `utterance` counts from 0 within a run. `settled` says that no word of it can change any more.
    """

    utterance: int
    words: tuple[TranscriptWord, ...]
    settled: bool

    @classmethod
    def of(cls, event: WordsRevised) -> Transcript:
        """What the recogniser said."""
        words = tuple(TranscriptWord(w.text, w.start_s, w.end_s, w.confidence) for w in event.words)
        return cls(event.utterance, words, event.closed)

    @property
    def text(self) -> str:
        """The words joined by spaces."""
        return " ".join(word.text for word in self.words)

    def to_json(self) -> dict[str, Any]:
        """The MQTT form (`schemas/transcript.json`)."""
        return {
            "schema": SCHEMA,
            "utterance": self.utterance,
            "text": self.text,
            "settled": self.settled,
            "words": [
                {**asdict(word), "start_s": round(word.start_s, 3), "end_s": round(word.end_s, 3)}
                for word in self.words
            ],
        }
