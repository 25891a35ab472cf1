"""The transcriber on the media axis: late sound, gaps, overlaps, and hours of it."""

from __future__ import annotations

import math
import time
import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.speech.timeline import WordTimeline
from models.speech.transcriber import (
    FRAME_S,
    Transcriber,
)
from models.speech.words import (
    SpeechEvent,
    VoiceDecided,
    Word,
    WordsRevised,
)
from tests.models.speech.spoken import (
    RATE,
    SENTENCES,
    check_settled,
    conversation,
    final_words,
    silence,
    speak,
    texts,
    transcribe,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from models.speech.recogniser import RecogniserFactory

# The media axis


def test_sound_that_starts_late_is_placed_late(tiny: RecogniserFactory) -> None:
    samples = np.concatenate([speak(SENTENCES[0]), silence(0.6)])
    early = final_words(transcribe(tiny, np.concatenate([silence(2.43), samples])))
    late = final_words(transcribe(tiny, samples, start=38_880))
    assert texts(late) == SENTENCES[0].split()
    assert [w.start_s for w in late] == pytest.approx([w.start_s for w in early])


def test_sound_before_the_first_frame_has_negative_times(tiny: RecogniserFactory) -> None:
    samples = np.concatenate([speak(SENTENCES[0]), silence(0.6)])
    words = final_words(transcribe(tiny, samples, start=-8_000))
    assert texts(words) == SENTENCES[0].split()
    assert -0.51 <= words[0].start_s < -0.3


def test_a_gap_is_silence(tiny: RecogniserFactory) -> None:
    first, second = speak(SENTENCES[0]), speak(SENTENCES[2])
    expected = final_words(transcribe(tiny, np.concatenate([first, silence(3), second, silence(1)])))
    transcriber = Transcriber(tiny)
    events = transcriber.feed(0, first)
    events += transcriber.feed(len(first) + 3 * RATE, second)
    events += transcriber.feed(len(first) + len(second) + 4 * RATE, silence(0))
    words = final_words(events + transcriber.finish())
    assert texts(words) == texts(expected) == (SENTENCES[0] + " " + SENTENCES[2]).split()
    assert [w.start_s for w in words] == pytest.approx([w.start_s for w in expected], abs=0.031)


def voice_spans(events: Iterable[SpeechEvent]) -> list[tuple[float, bool, bool]]:
    """Where voice decisions change; checks that they follow each other without a gap."""
    changes: list[tuple[float, bool, bool]] = []
    until: float | None = None
    for event in events:
        if isinstance(event, VoiceDecided):
            assert until is None or event.start_s == pytest.approx(until)
            until = event.end_s
            if not changes or changes[-1][1:] != (event.voiced, event.gate_open):
                changes.append((event.start_s, event.voiced, event.gate_open))
    return changes


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(0, 4 * RATE), max_size=10))
def test_a_gap_may_be_told_in_pieces(tiny: RecogniserFactory, pieces: list[int]) -> None:
    speech = speak(SENTENCES[2])
    end = len(speech) + 4 * RATE
    runs = []
    for stops in ([], sorted(pieces)):
        transcriber = Transcriber(tiny)
        events = transcriber.feed(0, speech)
        for stop in stops:
            events += transcriber.feed(len(speech) + stop, silence(0))
        events += transcriber.feed(end, speech)
        events += transcriber.finish()
        check_settled(events)
        runs.append(([e for e in events if isinstance(e, WordsRevised)], voice_spans(events)))
    assert runs[0] == runs[1]


def test_an_hours_gap_costs_nothing(tiny: RecogniserFactory) -> None:
    transcriber = Transcriber(tiny)
    speech = speak(SENTENCES[2])
    transcriber.feed(0, speech)
    began = time.perf_counter()
    events = transcriber.feed(3600 * RATE, silence(0))
    assert time.perf_counter() - began < 0.5
    assert len(events) < 100
    assert texts(final_words(events)) == SENTENCES[2].split()
    events = transcriber.feed(3600 * RATE, speech) + transcriber.finish()
    words = final_words(events)
    assert texts(words) == SENTENCES[2].split()
    assert words[0].start_s == pytest.approx(3600.0, abs=0.1)


def test_sound_for_a_time_already_past_is_left_out_and_counted(tiny: RecogniserFactory) -> None:
    samples = conversation()[: 4 * RATE]
    transcriber = Transcriber(tiny)
    events = transcriber.feed(0, samples[:30_000])
    events += transcriber.feed(20_000, samples[20_000:])
    assert transcriber.overlapping_samples == 10_000
    assert transcriber.position == len(samples)
    events += transcriber.feed(0, samples[:5_000])
    assert transcriber.overlapping_samples == 15_000
    assert events + transcriber.finish() == transcribe(tiny, samples)


def test_voice_decisions_cover_all_sound_and_mark_speech(tiny: RecogniserFactory) -> None:
    samples = np.concatenate([silence(1), speak(SENTENCES[0]), silence(1)])
    events = transcribe(tiny, samples)
    changes = voice_spans(events)
    assert changes[0] == (0.0, False, False)
    opened = next(start for start, _, is_open in changes if is_open)
    assert opened == pytest.approx(1.0, abs=0.2)
    assert changes[-1][1:] == (False, False)
    ends = [e.end_s for e in events if isinstance(e, VoiceDecided)]
    assert len(samples) / RATE <= ends[-1] < len(samples) / RATE + FRAME_S


def test_a_real_transcript_is_looked_up_as_it_was_said(tiny: RecogniserFactory) -> None:
    timeline = WordTimeline()
    transcriber = Transcriber(tiny)
    samples = conversation()
    for at in range(0, len(samples), 1600):
        for event in transcriber.feed(at, samples[at : at + 1600]):
            timeline, _ = timeline.step(event)
    for event in transcriber.finish():
        timeline, _ = timeline.step(event)
    assert timeline.settled_s == math.inf
    placed = [timeline.word_at(t / 100) for t in range(len(samples) // 160)]
    said: list[str] = []
    last: Word | None = None
    for p in placed:
        if p and p.word != last:
            said.append(p.word.text)
            last = p.word
    assert said == " ".join(SENTENCES).split()
    assert all(p.closed for p in placed if p)


# Hours


def run_for(hours: float, tiny: RecogniserFactory, look: Callable[[int], None]) -> list[Word]:
    """Two sentences every half minute, told with gaps between."""
    speech = np.concatenate([speak(SENTENCES[2]), silence(0.1), speak(SENTENCES[0])])
    transcriber = Transcriber(tiny)
    words: list[Word] = []
    for n in range(round(hours * 120)):
        words = final_words(
            transcriber.feed(n * 30 * RATE, speech) + transcriber.feed((n * 30 + 20) * RATE, silence(0))
        )
        assert texts(words) == (SENTENCES[2] + " " + SENTENCES[0]).split()
        look(n)
    return words


def test_an_hour_leaves_memory_flat_and_times_exact(tiny: RecogniserFactory) -> None:
    sizes: list[int] = []

    def look(n: int) -> None:
        if n in (20, 119):
            sizes.append(tracemalloc.get_traced_memory()[0])

    first = run_for(1 / 120, tiny, lambda n: None)
    tracemalloc.start()
    try:
        last = run_for(1, tiny, look)
    finally:
        tracemalloc.stop()
    assert sizes[1] - sizes[0] < 100_000
    assert [w.start_s - 119 * 30 for w in last] == pytest.approx([w.start_s for w in first], abs=1e-6)


@pytest.mark.slow
def test_two_hours_leave_the_process_no_larger(tiny: RecogniserFactory) -> None:
    sizes: dict[int, int] = {}

    def look(n: int) -> None:
        if n in (60, 239):
            sizes[n] = psutil.Process().memory_info().rss

    run_for(2, tiny, look)
    assert sizes[239] - sizes[60] < 10_000_000
