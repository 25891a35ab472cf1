"""Words over media time: what is being said at a frame, and from where on that has changed.

The transcriber's events go in; frames ask for their word. Holds a bounded stretch of the past.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, replace

from models.speech.words import Settled, SpeechEvent, VoiceDecided, Word, WordsRevised


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

    @property
    def end_s(self) -> float:
        """Media time of its last word's end."""
        return self.words[-1].end_s if self.words else -math.inf


@dataclass(frozen=True)
class WordTimeline:
    """What is known of words and voice on the media axis; immutable, so keeping one is keeping a snapshot.

    Forgets by itself what ended more than `horizon_s` before the newest voice decision and is closed; an
    utterance that is still open is never forgotten (its length has a bound of its own).

    `settled_s`: no word before this media time can change any more; -inf before the first mark.
    """

    horizon_s: float = 60.0
    settled_s: float = -math.inf
    newest_closed: int = -1
    utterances: tuple[_Utterance, ...] = ()
    voice: tuple[VoiceDecided, ...] = ()

    def __post_init__(self) -> None:
        if not self.horizon_s > 0:
            raise ValueError(f"horizon_s {self.horizon_s} must be positive")

    @property
    def heard_s(self) -> float:
        """Media time up to which voice was decided; 0 before the first decision."""
        return self.voice[-1].end_s if self.voice else 0.0

    def step(self, event: SpeechEvent) -> tuple[WordTimeline, float | None]:
        """Takes one event in; also says from which media time on words, or their vectors, differ (else None).

        A text that changes may change the vectors of all words of its utterance, so then it is the
        utterance's first word that counts; where only times changed, the first time that did. Raises
        ValueError for an event that breaks the transcriber's promises: a closed utterance revised, a settled
        mark that goes back.
        """
        match event:
            case WordsRevised():
                return self._revise(event)
            case Settled(until_s):
                if until_s < self.settled_s:
                    raise ValueError(f"the settled mark went back from {self.settled_s} to {until_s} s")
                return replace(self, settled_s=until_s), None
            case VoiceDecided():
                return self._add_voice(event), None

    def word_at(self, time_s: float) -> PlacedWord | None:
        """The word whose span holds `time_s`, None between words."""
        for utterance in reversed(self.utterances):
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
            for u in self.utterances
            for index, word in enumerate(u.words)
            if word.start_s < end_s and word.end_s > start_s
        )

    def voice_at(self, time_s: float) -> VoiceDecided | None:
        """The stretch of equal voice decisions that holds `time_s`; None where nothing was decided yet."""
        for span in reversed(self.voice):
            if span.start_s <= time_s:
                return span if time_s < span.end_s else None
        return None

    def forget_before(self, time_s: float) -> WordTimeline:
        """Without the closed utterances and the voice decisions that ended at or before `time_s`."""
        utterances, voice = self.utterances, self.voice
        while utterances and utterances[0].closed and utterances[0].end_s <= time_s:
            utterances = utterances[1:]
        while voice and voice[0].end_s <= time_s:
            voice = voice[1:]
        return replace(self, utterances=utterances, voice=voice)

    def _revise(self, event: WordsRevised) -> tuple[WordTimeline, float | None]:
        if event.utterance <= self.newest_closed:
            raise ValueError(f"utterance {event.utterance} is closed and cannot change")
        earlier = self.utterances
        known: tuple[Word, ...] = ()
        if earlier and earlier[-1].number == event.utterance:
            earlier, known = earlier[:-1], earlier[-1].words
        texts = tuple(w.text for w in event.words)
        if event.words or not event.closed:
            earlier = (*earlier, _Utterance(event.utterance, event.words, texts, event.closed))
        closed = event.utterance if event.closed else self.newest_closed
        changed_s = _first_difference(known, event.words)
        return replace(self, utterances=earlier, newest_closed=closed), changed_s

    def _add_voice(self, event: VoiceDecided) -> WordTimeline:
        last = self.voice[-1] if self.voice else None
        same = last and (last.voiced, last.gate_open) == (event.voiced, event.gate_open)
        # Stretches merge, but none grows beyond the horizon: forgetting must be able to let go of it.
        if last and same and event.end_s - last.start_s <= self.horizon_s:
            return replace(self, voice=(*self.voice[:-1], replace(last, end_s=event.end_s)))
        return replace(self, voice=(*self.voice, event)).forget_before(event.end_s - self.horizon_s)


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
