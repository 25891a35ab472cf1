"""Synthetic speech, and what a transcriber makes of it."""

from __future__ import annotations

import io
import math
import shutil
import subprocess
from functools import cache
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from models.speech.transcriber import (
    Transcriber,
    TranscriberSettings,
)
from models.speech.words import (
    Settled,
    SpeechEvent,
    Word,
    WordsRevised,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from models.speech.recogniser import RecogniserFactory

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
    with av.open(source if isinstance(source, io.BytesIO) else str(source), "r") as container:
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
