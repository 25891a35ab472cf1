"""What performers say: words that vosk-tiny knows, chosen to suit the feeling."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from offline.performer.script import LINES, SMALL_TALK, choose_line, vocabulary

VOSK_TINY = Path(__file__).resolve().parents[3] / "models" / "assets" / "vosk-tiny"
VALUE = st.floats(-1, 1)


def test_vosk_tiny_knows_every_word() -> None:
    listed = VOSK_TINY / "graph" / "words.txt"
    known = {line.split()[0] for line in listed.read_text(encoding="utf-8").splitlines()}
    assert vocabulary() <= known


def test_every_sentence_is_tagged_once_and_in_range() -> None:
    assert max(Counter(line.text for line in LINES).values()) == 1
    assert all(abs(line.valence) <= 1 and abs(line.arousal) <= 1 for line in LINES)


def test_the_sentences_cover_the_plane() -> None:
    for valence in (-0.7, 0.7):
        for arousal in (-0.6, 0.6):
            near = [x for x in LINES if np.hypot(x.valence - valence, x.arousal - arousal) < 0.3]
            assert len(near) >= 6, (valence, arousal)


@given(valence=VALUE, arousal=VALUE, seed=st.integers(0, 2**31))
def test_what_was_just_said_is_not_said_again(valence: float, arousal: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    spoken: list[str] = []
    for _ in range(8):
        spoken.append(choose_line(rng, valence, arousal, spoken=spoken).text)
    assert len(set(spoken)) == 8


def test_sentences_suit_the_feeling() -> None:
    rng = np.random.default_rng(0)
    felt = rng.uniform(-1, 1, (400, 2))
    said = [choose_line(rng, v, a) for v, a in felt]
    for column, tags in enumerate(([x.valence for x in said], [x.arousal for x in said])):
        assert np.corrcoef(felt[:, column], tags)[0, 1] > 0.8


def test_small_talk_tells_nothing() -> None:
    assert len(SMALL_TALK) >= 10
    assert all(abs(x.valence) < 0.1 and abs(x.arousal) < 0.1 for x in SMALL_TALK)


def test_where_everything_was_said_it_starts_again() -> None:
    everything = [line.text for line in SMALL_TALK]
    assert choose_line(np.random.default_rng(0), 0.9, 0.9, spoken=everything, lines=SMALL_TALK) in SMALL_TALK
