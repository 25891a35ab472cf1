"""Words over media time: lookups, what changed first, and forgetting."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.speech.timeline import PlacedWord, WordTimeline
from models.speech.words import Settled, VoiceDecided, Word, WordsRevised

I_AM = (Word("i", 1.0, 1.2), Word("am", 1.2, 1.5))
SO_SAD = (Word("so", 3.0, 3.2), Word("sad", 3.4, 3.9))


def test_a_frame_finds_the_word_that_is_being_said_and_its_context() -> None:
    timeline = WordTimeline()
    timeline, _ = timeline.step(WordsRevised(0, I_AM, closed=True))
    timeline, _ = timeline.step(WordsRevised(1, SO_SAD, closed=False))
    assert timeline.word_at(0.99) is None
    assert timeline.word_at(1.0) == PlacedWord(I_AM[0], 0, 0, ("i", "am"), closed=True)
    assert timeline.word_at(1.2) == PlacedWord(I_AM[1], 0, 1, ("i", "am"), closed=True)
    assert timeline.word_at(1.5) is None, "an end is not inside"
    assert timeline.word_at(3.3) is None, "between two words of an utterance"
    assert timeline.word_at(3.5) == PlacedWord(SO_SAD[1], 1, 1, ("so", "sad"), closed=False)
    assert timeline.word_at(9.0) is None
    assert [p.word.text for p in timeline.words_between(1.3, 3.4)] == ["am", "so"]


def test_a_changed_text_touches_its_whole_utterance() -> None:
    timeline = WordTimeline()
    timeline, changed_s = timeline.step(WordsRevised(0, I_AM[:1], closed=False))
    assert changed_s == 1.0
    timeline, changed_s = timeline.step(WordsRevised(0, I_AM, closed=False))
    assert changed_s == 1.0, "a new word is new context for the first"
    earlier = (Word("i", 0.8, 1.0), Word("was", 1.0, 1.4))
    timeline, changed_s = timeline.step(WordsRevised(0, earlier, closed=False))
    assert changed_s == 0.8
    timeline, changed_s = timeline.step(WordsRevised(0, (), closed=False))
    assert changed_s == 0.8
    assert timeline.word_at(1.1) is None


def test_changed_times_touch_only_what_lies_after_them() -> None:
    timeline = WordTimeline()
    timeline, _ = timeline.step(WordsRevised(0, I_AM, closed=False))
    moved_end = (I_AM[0], Word("am", 1.2, 1.6))
    timeline, changed_s = timeline.step(WordsRevised(0, moved_end, closed=False))
    assert changed_s == 1.5
    moved_start = (I_AM[0], Word("am", 1.3, 1.6))
    timeline, changed_s = timeline.step(WordsRevised(0, moved_start, closed=False))
    assert changed_s == 1.2
    rated = tuple(Word(w.text, w.start_s, w.end_s, 0.9) for w in moved_start)
    timeline, changed_s = timeline.step(WordsRevised(0, rated, closed=True))
    assert changed_s is None, "a confidence changes no vector"


def test_a_closed_utterance_and_a_settled_mark_cannot_go_back() -> None:
    timeline = WordTimeline()
    assert timeline.settled_s == -math.inf
    timeline, _ = timeline.step(WordsRevised(0, I_AM, closed=True))
    with pytest.raises(ValueError, match="utterance 0 is closed"):
        timeline, _ = timeline.step(WordsRevised(0, SO_SAD, closed=True))
    timeline, _ = timeline.step(Settled(2.0))
    assert timeline.settled_s == 2.0
    with pytest.raises(ValueError, match="settled mark"):
        timeline, _ = timeline.step(Settled(1.0))


def test_voice_is_known_where_it_was_decided() -> None:
    timeline = WordTimeline()
    assert timeline.heard_s == 0.0
    for n, voiced in enumerate([False, False, True, True, False]):
        timeline, _ = timeline.step(VoiceDecided(n * 0.5, (n + 1) * 0.5, voiced, gate_open=voiced))
    assert timeline.heard_s == 2.5
    spans = [timeline.voice_at(t) for t in (0.0, 0.9, 1.0, 1.9, 2.2)]
    assert [s.voiced for s in spans if s] == [False, False, True, True, False]
    assert timeline.voice_at(1.5) == VoiceDecided(1.0, 2.0, True, True)
    assert timeline.voice_at(2.5) is None
    assert timeline.voice_at(-0.1) is None


def test_the_past_is_forgotten_on_request_but_open_words_are_not() -> None:
    timeline = WordTimeline()
    timeline, _ = timeline.step(WordsRevised(0, I_AM, closed=True))
    timeline, _ = timeline.step(WordsRevised(1, SO_SAD, closed=False))
    timeline, _ = timeline.step(VoiceDecided(0.0, 4.0, True, True))
    timeline = timeline.forget_before(1.4)
    assert timeline.word_at(1.1) is not None, "an utterance is forgotten whole"
    timeline = timeline.forget_before(10.0)
    assert timeline.word_at(1.1) is None
    assert timeline.word_at(3.1) is not None
    assert timeline.voice_at(1.0) is None


def test_it_never_grows() -> None:
    timeline = WordTimeline(horizon_s=20)
    for n in range(2_000):
        at = n * 2.0
        timeline, _ = timeline.step(VoiceDecided(at, at + 1, True, True))
        timeline, _ = timeline.step(WordsRevised(n, (Word("hello", at, at + 0.5),), closed=True))
        timeline, _ = timeline.step(VoiceDecided(at + 1, at + 2, False, False))
        timeline, _ = timeline.step(Settled(at + 2))
    assert len(timeline.words_between(0, math.inf)) <= 11
    assert timeline.word_at(3_999.0 - 1) is not None
    assert timeline.voice_at(100.0) is None


def test_a_horizon_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="horizon_s"):
        WordTimeline(horizon_s=0)


def _laid_out(parts: list[tuple[str, int, int]]) -> tuple[Word, ...]:
    at, words = 0, []
    for text, pause, length in parts:
        words.append(Word(text, (at + pause) / 10, (at + pause + length) / 10))
        at += pause + length
    return tuple(words)


words_lists = st.lists(
    st.tuples(st.sampled_from(["i", "am", "so"]), st.integers(0, 3), st.integers(1, 4)), max_size=6
).map(_laid_out)


@given(st.lists(words_lists, max_size=8))
def test_nothing_before_the_first_change_differs(revisions: list[tuple[Word, ...]]) -> None:
    """What a frame's vector depends on (the utterance's texts, the place in it) is equal before the mark."""
    timeline = WordTimeline()
    grid = np.arange(0, 5, 0.05) + 0.01

    def seen() -> list[tuple[int, tuple[str, ...]] | None]:
        placed = [timeline.word_at(float(t)) for t in grid]
        return [(p.index, p.texts) if p else None for p in placed]

    before = seen()
    for words in revisions:
        timeline, changed_s = timeline.step(WordsRevised(0, words, closed=False))
        after = seen()
        differing = [t for t, a, b in zip(grid, before, after, strict=True) if a != b]
        assert not differing or (changed_s is not None and changed_s <= differing[0])
        before = after
