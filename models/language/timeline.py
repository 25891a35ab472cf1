"""Words over media time: what is being said at a frame, and from where on that has changed.

The transcriber's events go in; frames ask for their word. Holds a bounded stretch of the past.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass

from models.language.words import Event, Settled, VoiceDecided, Word, WordsRevised


@dataclass(frozen=True)
class PlacedWord:
    """A word within its utterance so far: what a word vector depends on.

    `texts` are all words of the utterance, `texts[index]` this one's. `closed`: none of this can change.
    """

    word: Word
    utterance: int
    index: int
    texts: tuple[str, ...]
    closed: bool


@dataclass(frozen=True)
class _Utterance:
    number: int
    words: tuple[Word, ...]
    texts: tuple[str, ...]
    closed: bool


class WordTimeline:
    """What is known of words and voice on the media axis.

    Forgets by itself what ended more than `horizon_s` before the newest voice decision and is closed; an
    utterance that is still open is never forgotten (its length has a bound of its own).
    """

    def __init__(self, horizon_s: float = 60.0) -> None:
        if not horizon_s > 0:
            raise ValueError(f"horizon_s {horizon_s} must be positive")
        self._horizon_s = horizon_s
        self._utterances: deque[_Utterance] = deque()
        self._voice: deque[VoiceDecided] = deque()
        self._settled_s = -math.inf
        self._newest_closed = -1

    @property
    def settled_s(self) -> float:
        """No word before this media time can change any more; -inf before the first mark."""
        return self._settled_s

    @property
    def heard_s(self) -> float:
        """Media time up to which voice was decided; 0 before the first decision."""
        return self._voice[-1].end_s if self._voice else 0.0

    def apply(self, event: Event) -> float | None:
        """Takes one event in. Returns the media time from which words, or their vectors, differ; else None.

        A text that changes may change the vectors of all words of its utterance, so then it is the
        utterance's first word that counts; where only times changed, the first time that did. Raises
        ValueError for an event that breaks the transcriber's promises: a closed utterance revised, a settled
        mark that goes back.
        """
        match event:
            case WordsRevised():
                return self._revise(event)
            case Settled(until_s):
                if until_s < self._settled_s:
                    raise ValueError(f"the settled mark went back from {self._settled_s} to {until_s} s")
                self._settled_s = until_s
            case VoiceDecided():
                self._decide(event)
        return None

    def word_at(self, time_s: float) -> PlacedWord | None:
        """The word whose span holds `time_s`, None between words."""
        for utterance in reversed(self._utterances):
            if not utterance.words or time_s < utterance.words[0].start_s:
                continue
            index = bisect_right(utterance.words, time_s, key=lambda w: w.start_s) - 1
            word = utterance.words[index]
            if time_s >= word.end_s:
                return None
            return PlacedWord(word, utterance.number, index, utterance.texts, utterance.closed)
        return None

    def words_between(self, start_s: float, end_s: float) -> tuple[PlacedWord, ...]:
        """All words that touch the time from `start_s` to `end_s` (exclusive), in order."""
        return tuple(
            PlacedWord(word, u.number, index, u.texts, u.closed)
            for u in self._utterances
            for index, word in enumerate(u.words)
            if word.start_s < end_s and word.end_s > start_s
        )

    def voice_at(self, time_s: float) -> VoiceDecided | None:
        """The stretch of equal voice decisions that holds `time_s`; None where nothing was decided yet."""
        for span in reversed(self._voice):
            if span.start_s <= time_s:
                return span if time_s < span.end_s else None
        return None

    def forget_before(self, time_s: float) -> None:
        """Drops closed utterances and voice decisions that ended at or before `time_s`."""
        while self._utterances and self._utterances[0].closed:
            words = self._utterances[0].words
            if words and words[-1].end_s > time_s:
                break
            self._utterances.popleft()
        while self._voice and self._voice[0].end_s <= time_s:
            self._voice.popleft()

    def _revise(self, event: WordsRevised) -> float | None:
        if event.utterance <= self._newest_closed:
            raise ValueError(f"utterance {event.utterance} is closed and cannot change")
        texts = tuple(w.text for w in event.words)
        new = _Utterance(event.utterance, event.words, texts, event.closed)
        old: _Utterance | None = None
        if self._utterances and self._utterances[-1].number == event.utterance:
            old = self._utterances.pop()
        self._utterances.append(new)
        if event.closed:
            self._newest_closed = event.utterance
            if not event.words:
                self._utterances.pop()
        return _first_difference(old.words if old else (), event.words)

    def _decide(self, event: VoiceDecided) -> None:
        last = self._voice[-1] if self._voice else None
        same = last is not None and (last.voiced, last.gate_open) == (event.voiced, event.gate_open)
        # Equal decisions merge, but no stretch outgrows the horizon: forgetting lets go of whole stretches.
        if last is not None and same and event.end_s - last.start_s <= self._horizon_s:
            self._voice[-1] = VoiceDecided(last.start_s, event.end_s, event.voiced, event.gate_open)
        else:
            self._voice.append(event)
        self.forget_before(event.end_s - self._horizon_s)


def _first_difference(old: tuple[Word, ...], new: tuple[Word, ...]) -> float | None:
    """From which media time on the words, their vectors or their spans differ."""
    spans_old = [(w.start_s, w.end_s) for w in old]
    spans_new = [(w.start_s, w.end_s) for w in new]
    if [w.text for w in old] != [w.text for w in new]:
        return min(s for s, _ in [*spans_old[:1], *spans_new[:1]])
    for (old_start, old_end), (new_start, new_end) in zip(spans_old, spans_new, strict=True):
        if old_start != new_start:
            return min(old_start, new_start)
        if old_end != new_end:
            return min(old_end, new_end)
    return None
