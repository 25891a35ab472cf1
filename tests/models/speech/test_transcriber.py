"""The transcriber, with real Vosk on the shipped vosk-tiny and real (synthetic) speech."""

from __future__ import annotations

import io
import itertools
import math
import shutil
import subprocess
import time
import tracemalloc
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import av
import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.speech.gate import GateSettings
from models.speech.recogniser import TINY_FOLDER, HeardWord, RecogniserFactory, open_recogniser
from models.speech.timeline import WordTimeline
from models.speech.transcriber import (
    FRAME_S,
    FRAME_SAMPLES,
    Transcriber,
    TranscriberSettings,
    split_at_cut,
    to_int16,
)
from models.speech.words import (
    LONGEST_GUESS_S,
    PARTIAL_LATENCY_S,
    Settled,
    SpeechEvent,
    VoiceDecided,
    Word,
    WordsRevised,
    guess_times,
)

Samples = NDArray[np.int16]
RATE = 16_000

SENTENCES = [
    "i am so happy to see you",
    "this is the best day of my life",
    "please do not cry",
    "i am so sorry for your loss",
    "i feel lonely tonight",
    "stop it right now",
    "let us go to the park",
    "i am worried about my mother",
]


def decode(source: Path | io.BytesIO) -> Samples:
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
    parts = []
    with av.open(source if isinstance(source, io.BytesIO) else str(source)) as container:
        for frame in container.decode(audio=0):
            parts += resampler.resample(frame)
    parts += resampler.resample(None)
    return np.concatenate([part.to_ndarray()[0] for part in parts])


@cache
def speak(text: str, voice: str = "en-us") -> Samples:
    """espeak-ng's speech, without the silence around it."""
    if shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng is not installed: no speech to recognise")
    wav = subprocess.run(["espeak-ng", "-v", voice, "--stdout", text], capture_output=True, check=True).stdout
    samples = decode(io.BytesIO(wav))
    loud = np.flatnonzero(np.abs(samples) > 300)
    return samples[max(0, loud[0] - 160) : loud[-1] + 160]


def silence(length_s: float) -> Samples:
    return np.zeros(round(length_s * RATE), np.int16)


@cache
def conversation() -> Samples:
    """Eight sentences with pauses of 0.2 to 1.6 s: some within an utterance, some between."""
    parts = [silence(0.7)]
    for n, sentence in enumerate(SENTENCES):
        parts += [speak(sentence, "en-us" if n % 2 else "en-us+f2"), silence(0.2 * (n + 1))]
    return np.concatenate(parts)


@pytest.fixture(scope="module")
def tiny() -> RecogniserFactory:
    return open_recogniser(TINY_FOLDER)


def transcribe(
    new: RecogniserFactory,
    samples: Samples,
    chunk: int = 1600,
    start: int = 0,
    options: TranscriberSettings | None = None,
) -> list[SpeechEvent]:
    transcriber = Transcriber(new, options)
    events = []
    for at in range(0, len(samples), chunk):
        events += transcriber.feed(start + at, samples[at : at + chunk])
    return events + transcriber.finish()


def final_words(events: Iterable[SpeechEvent]) -> list[Word]:
    return [w for e in events if isinstance(e, WordsRevised) and e.closed for w in e.words]


def texts(words: Iterable[Word]) -> list[str]:
    return [w.text for w in words]


def errors(expected: list[str], got: list[str]) -> int:
    """Words to insert, delete or replace (Levenshtein)."""
    row = list(range(len(got) + 1))
    for i, e in enumerate(expected, 1):
        diagonal, row[0] = row[0], i
        for j, g in enumerate(got, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (e != g))
    return row[-1]


# What is heard


@pytest.mark.parametrize("voice", ["en-us", "en-us+f2", "en-us+m3", "en"])
def test_sentences_are_recognised_word_by_word(tiny: RecogniserFactory, voice: str) -> None:
    for sentence in SENTENCES[:4]:
        samples = np.concatenate([silence(0.5), speak(sentence, voice), silence(0.8)])
        assert texts(final_words(transcribe(tiny, samples))) == sentence.split()


def test_a_conversation_is_recognised_and_placed_where_it_was_said(tiny: RecogniserFactory) -> None:
    words = final_words(transcribe(tiny, conversation()))
    assert texts(words) == " ".join(SENTENCES).split()
    at, n = 0.7, 0
    for number, sentence in enumerate(SENTENCES):
        length = len(speak(sentence, "en-us" if number % 2 else "en-us+f2")) / RATE
        count = len(sentence.split())
        assert words[n].start_s == pytest.approx(at, abs=0.1)
        assert words[n + count - 1].end_s == pytest.approx(at + length, abs=0.15)
        at, n = at + length + 0.2 * (number + 1), n + count


def test_words_are_in_order_free_of_overlap_and_rated(tiny: RecogniserFactory) -> None:
    words = final_words(transcribe(tiny, conversation()))
    for before, after in itertools.pairwise(words):
        assert before.start_s < before.end_s <= after.start_s
    assert all(w.confidence is not None and 0 <= w.confidence <= 1 for w in words)


def test_speech_without_a_pause_loses_no_word_where_it_is_cut(tiny: RecogniserFactory) -> None:
    sentences = SENTENCES * 3
    run_on = np.concatenate([speak(sentence) for sentence in sentences])
    assert len(run_on) > 30 * RATE
    expected = " ".join(sentences).split()
    events = transcribe(tiny, run_on)
    uncut = transcribe(tiny, run_on, options=TranscriberSettings(soft_limit_s=1e4, max_utterance_s=1e5))
    hacked = transcribe(tiny, run_on, options=TranscriberSettings(overlap_s=0, carry_s=0))
    mistakes, uncut_mistakes, hacked_mistakes = (
        errors(expected, texts(final_words(run))) for run in (events, uncut, hacked)
    )
    assert len([e for e in events if isinstance(e, WordsRevised) and e.closed]) >= 4
    assert mistakes <= uncut_mistakes + 1, "the recogniser's own mistakes, and no more"
    assert mistakes < hacked_mistakes, "cutting without carrying words over does lose some"


def test_silence_and_soft_noise_say_nothing(tiny: RecogniserFactory) -> None:
    noise = np.random.default_rng(0).normal(0, 30, 20 * RATE).astype(np.int16)
    for samples in (silence(20), noise):
        events = transcribe(tiny, samples)
        assert final_words(events) == []
        assert events[-1] == Settled(math.inf)


@pytest.mark.parametrize("name", ["jfk.flac", "vosk_test_digits.wav"])
def test_real_speech_is_heard_though_hardly_understood(
    tiny: RecogniserFactory, fixtures: Path, name: str
) -> None:
    samples = decode(fixtures / "speech" / name)
    events = transcribe(tiny, samples)
    words = final_words(events)
    assert len(words) >= 5
    assert all(a.end_s <= b.start_s for a, b in itertools.pairwise(words))
    assert words[-1].end_s <= len(samples) / RATE + FRAME_S
    voiced = sum(e.end_s - e.start_s for e in events if isinstance(e, VoiceDecided) and e.voiced)
    assert voiced > 0.4 * len(samples) / RATE


# Determinism


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_events_do_not_depend_on_the_chunks(tiny: RecogniserFactory, data: st.DataObject) -> None:
    samples = conversation()[: 9 * RATE]
    cuts = data.draw(st.lists(st.integers(0, len(samples)), max_size=40))
    edges = [0, *sorted(cuts), len(samples)]
    transcriber = Transcriber(tiny)
    events = []
    for start, end in itertools.pairwise(edges):
        events += transcriber.feed(start, samples[start:end])
    events += transcriber.finish()
    assert events == transcribe(tiny, samples, chunk=480)


def test_odd_sizes_give_the_same_as_all_at_once(tiny: RecogniserFactory) -> None:
    samples = conversation()
    at_once = transcribe(tiny, samples, chunk=len(samples))
    for chunk in (160, 479, 533, 16_001):
        assert transcribe(tiny, samples, chunk) == at_once


def test_float_samples_are_heard_like_integers(tiny: RecogniserFactory) -> None:
    samples = conversation()[: 5 * RATE]
    floating = (samples / 32768).astype(np.float32)
    transcriber = Transcriber(tiny)
    assert transcriber.feed(0, floating) + transcriber.finish() == transcribe(tiny, samples)


# Settled marks


def check_settled(events: Iterable[SpeechEvent]) -> None:
    """Nothing before a settled mark changes after it, and marks never go back."""
    mark = -math.inf
    said: dict[int, tuple[Word, ...]] = {}
    closed = -1
    for event in events:
        if isinstance(event, Settled):
            assert event.until_s > mark
            mark = event.until_s
        elif isinstance(event, WordsRevised):
            assert event.utterance > closed
            assert all(w.start_s >= mark for w in said.get(event.utterance, ()))
            assert all(w.start_s >= mark for w in event.words)
            said[event.utterance] = event.words
            if event.closed:
                closed = event.utterance


def test_nothing_changes_before_the_settled_mark(tiny: RecogniserFactory) -> None:
    noise = np.random.default_rng(1).normal(0, 3000, 4 * RATE).astype(np.int16)
    run_on = np.concatenate([speak(sentence) for sentence in SENTENCES])
    check_settled(transcribe(tiny, np.concatenate([conversation(), noise, run_on, silence(1)])))


def test_the_settled_mark_lags_no_more_than_promised(tiny: RecogniserFactory) -> None:
    samples = np.concatenate([conversation(), *[speak(s) for s in SENTENCES * 2], silence(2)])
    transcriber = Transcriber(tiny)
    mark, longest = 0.0, 0.0
    for at in range(0, len(samples), 441):
        for event in transcriber.feed(at, samples[at : at + 441]):
            if isinstance(event, Settled):
                mark = event.until_s
        longest = max(longest, transcriber.position / RATE - mark)
    assert 5 < longest <= transcriber.max_lag_s < 10, "within the 300-frame window at 30 frames a second"
    assert len(samples) / RATE - mark < 0.4, "silence settles at once, but for the pre-roll"


def test_a_pause_settles_what_was_said_within_half_a_second(tiny: RecogniserFactory) -> None:
    samples = np.concatenate([silence(0.5), speak(SENTENCES[0]), silence(2)])
    transcriber = Transcriber(tiny)
    for at in range(0, len(samples), 160):
        events = transcriber.feed(at, samples[at : at + 160])
        if words := final_words(events):
            assert at / RATE - words[-1].end_s < 0.75
            return
    pytest.fail("the utterance was never closed")


# Early words


def test_early_words_come_soon_after_they_were_said_and_roughly_in_place(tiny: RecogniserFactory) -> None:
    samples = np.concatenate([silence(0.5), speak(SENTENCES[1]), silence(1)])
    transcriber, first_seen, provisional = Transcriber(tiny), {}, ()
    for at in range(0, len(samples), 160):
        for event in transcriber.feed(at, samples[at : at + 160]):
            if isinstance(event, WordsRevised) and not event.closed:
                provisional = event.words
                for n, word in enumerate(event.words):
                    first_seen.setdefault((n, word.text), at / RATE)
    final = final_words(transcribe(tiny, samples))
    delays = [first_seen[n, w.text] - w.end_s for n, w in enumerate(final) if (n, w.text) in first_seen]
    assert len(delays) >= len(final) - 1
    assert np.median(delays) < 0.3
    misplaced = [abs(a.end_s - b.end_s) for a, b in zip(provisional, final, strict=False)]
    assert np.median(misplaced) < 0.25
    assert all(w.confidence is None for w in provisional)


texts_lists = st.lists(st.sampled_from(["i", "am", "so", "happy"]), max_size=8)


@given(st.lists(st.tuples(texts_lists, st.floats(0.03, 2.0)), max_size=12), st.floats(0, 1000))
def test_guessed_times_are_in_order_whatever_the_partials(
    partials: list[tuple[list[str], float]], earliest_s: float
) -> None:
    words: tuple[Word, ...] = ()
    heard_s = earliest_s
    for partial, later_s in partials:
        heard_s += later_s
        before, words = words, guess_times(partial, words, earliest_s=earliest_s, heard_s=heard_s)
        assert texts(words) == partial
        for old, new in zip(before, words, strict=False):
            assert (old.start_s, old.end_s) == (new.start_s, new.end_s), "a place once given stays"
        assert all(earliest_s <= w.start_s < w.end_s for w in words)
        assert all(w.end_s - w.start_s <= LONGEST_GUESS_S + 1e-9 for w in words)
        assert all(a.end_s <= b.start_s for a, b in itertools.pairwise(words))


def test_new_words_end_where_the_recogniser_has_usually_heard_to() -> None:
    known = (Word("i", 1.0, 1.2),)
    words = guess_times(["i", "am", "so"], known, earliest_s=0.5, heard_s=1.2 + 0.6 + PARTIAL_LATENCY_S)
    assert words[1].start_s == pytest.approx(1.2)
    assert words[1].end_s == pytest.approx(1.5)
    assert words[2].end_s == pytest.approx(1.8)


# Cuts


def heard(*spans: tuple[float, float]) -> list[HeardWord]:
    return [HeardWord(f"w{n}", start, end, 1.0) for n, (start, end) in enumerate(spans)]


def test_a_word_that_touches_the_cut_goes_to_the_next_utterance() -> None:
    words = heard((0.0, 0.6), (0.6, 2.4), (2.4, 3.0))
    kept, frame = split_at_cut(words, 100, TranscriberSettings())
    assert (kept, frame) == (words[:2], 80)


def test_without_a_doubtful_word_the_overlap_is_heard_again() -> None:
    words = heard((0.0, 0.6))
    assert split_at_cut(words, 100, TranscriberSettings()) == (words, 90)
    assert split_at_cut([], 100, TranscriberSettings()) == ([], 90)


def test_a_word_longer_than_can_be_carried_is_kept_as_it_is() -> None:
    words = heard((0.0, 3.0))
    assert split_at_cut(words, 100, TranscriberSettings()) == (words, 100)


@given(st.lists(st.floats(0, 0.9), max_size=20), st.integers(50, 250))
def test_a_cut_always_gets_on_and_splits_no_kept_word(lengths: list[float], frames: int) -> None:
    options = TranscriberSettings()
    edges = [0.0]
    for length in lengths:
        edges.append(min(edges[-1] + 0.03 * round(length / 0.03), frames * FRAME_S))
    words = heard(*itertools.pairwise(edges))
    kept, frame = split_at_cut(words, frames, options)
    assert kept == words[: len(kept)]
    assert frames - options.carry_s / FRAME_S - 1 <= frame <= frames
    assert all(w.end_s <= frame * FRAME_S + FRAME_S / 2 for w in kept)


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
            timeline, _ = timeline.apply(event)
    for event in transcriber.finish():
        timeline, _ = timeline.apply(event)
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


# Bad input


def test_samples_of_another_kind_are_refused(tiny: RecogniserFactory) -> None:
    transcriber = Transcriber(tiny)
    with pytest.raises(ValueError, match="mono"):
        transcriber.feed(0, np.zeros((2, 160), np.int16))
    with pytest.raises(ValueError, match="int32"):
        transcriber.feed(0, np.zeros(160, np.int32))


def test_loud_and_broken_floats_are_clipped_and_silenced() -> None:
    samples = np.array([0.5, 2.0, -2.0, np.nan, 1.0, -1.0, np.inf], np.float32)
    assert to_int16(samples).tolist() == [16384, 32767, -32768, 0, 32767, -32768, 32767]


def test_nothing_can_be_fed_after_the_end(tiny: RecogniserFactory) -> None:
    transcriber = Transcriber(tiny)
    assert transcriber.finish() == [Settled(math.inf)]
    assert transcriber.finish() == []
    with pytest.raises(RuntimeError, match="finished"):
        transcriber.feed(0, np.zeros(FRAME_SAMPLES, np.int16))


@pytest.mark.parametrize(
    "values",
    [
        {"vad_mode": 4},
        {"overlap_s": 2.0},
        {"soft_limit_s": 9.0},
        {"soft_limit_s": 1.0},
        {"gate": GateSettings(pre_roll=4), "max_utterance_s": 3.0},
    ],
)
def test_settings_that_do_not_fit_together_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"vad_mode|overlap_s|soft_limit_s"):
        TranscriberSettings(**values)  # type: ignore[arg-type]
