"""The transcriber, with real Vosk on the shipped vosk-tiny and real (synthetic) speech."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.speech.gate import GateSettings
from models.speech.recogniser import HeardWord, RecogniserFactory
from models.speech.transcriber import (
    FRAME_S,
    FRAME_SAMPLES,
    Transcriber,
    TranscriberSettings,
    split_at_cut,
    to_int16,
)
from models.speech.words import (
    Settled,
    VoiceDecided,
    Word,
    WordsRevised,
)
from tests.models.speech.spoken import (
    RATE,
    SENTENCES,
    check_settled,
    conversation,
    decode,
    errors,
    final_words,
    silence,
    speak,
    texts,
    transcribe,
)

if TYPE_CHECKING:
    from pathlib import Path

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
    transcriber = Transcriber(tiny)
    first_seen: dict[tuple[int, str], float] = {}
    provisional: tuple[Word, ...] = ()
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
