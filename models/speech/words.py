"""Words and the events by which the transcriber reports them, on the media time axis.

Times are seconds of media time: sample n of the 16 kHz sound is n / 16000 s after the first video frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

UNKNOWN: Final = "[unk]"
"""The text of a word that was heard but is not in the recogniser's vocabulary: its span is information."""

PARTIAL_LATENCY_S: Final = 0.11
"""How long after a word's end the recogniser names it in its partial text (measured median)."""

LONGEST_GUESS_S: Final = 0.4
"""No word is guessed longer than this: after a pause, new words lie at the end of it, not all over it."""

SHORTEST_GUESS_S: Final = 0.05
"""No word is guessed shorter than this."""


@dataclass(frozen=True)
class Word:
    """One word from `start_s` (inclusive) to `end_s` (exclusive), media time.

    `confidence` is the recogniser's posterior in [0, 1], None while the word is provisional and its times
    are estimates.
    """

    text: str
    start_s: float
    end_s: float
    confidence: float | None = None


@dataclass(frozen=True)
class WordsRevised:
    """The complete current list of words of one utterance; it replaces what was said of it before.

    Utterances are numbered from 0 in order of time and never overlap; an utterance's words are in order and
    do not overlap. Once `closed`, the words are final, with exact times, and the utterance is never heard of
    again. `words` may be empty (a sound that opened the gate and was no speech).
    """

    utterance: int
    words: tuple[Word, ...]
    closed: bool


@dataclass(frozen=True)
class Settled:
    """No word before `until_s` can change any more. Never goes back; `inf` once the sound has ended."""

    until_s: float


EVERYTHING_SETTLED: Final = Settled(float("inf"))
"""The sound has ended, or there is none: no word can change any more."""


@dataclass(frozen=True)
class VoiceDecided:
    """Whether there was voice from `start_s` to `end_s`; spans follow each other without a gap.

    `voiced` is the detector's own decision, `gate_open` the smoothed one: the gate heard enough voice lately.
    """

    start_s: float
    end_s: float
    voiced: bool
    gate_open: bool


SpeechEvent = WordsRevised | Settled | VoiceDecided


def guess_times(
    texts: Sequence[str],
    known: Sequence[Word],
    *,
    earliest_s: float,
    heard_s: float,
) -> tuple[Word, ...]:
    """Provisional words for a partial text, whose words have no times yet.

    The word at a position keeps the span it was first given, whatever text it is revised to; words beyond
    those `known` share evenly the time from the last known word's end (or `earliest_s`) to `heard_s` (the
    media time of the newest sound heard) less the usual latency, but at most `LONGEST_GUESS_S` each. The
    result is in order and free of overlap.
    """
    kept = [Word(text, old.start_s, old.end_s) for text, old in zip(texts, known, strict=False)]
    new = texts[len(kept) :]
    if not new:
        return tuple(kept)
    floor_s = kept[-1].end_s if kept else earliest_s
    last_s = max(heard_s - PARTIAL_LATENCY_S, floor_s + len(new) * SHORTEST_GUESS_S)
    first_s = max(floor_s, last_s - len(new) * LONGEST_GUESS_S)
    step_s = (last_s - first_s) / len(new)
    edges = [first_s + i * step_s for i in range(len(new))] + [last_s]
    guessed = [Word(text, edges[i], edges[i + 1]) for i, text in enumerate(new)]
    return (*kept, *guessed)
