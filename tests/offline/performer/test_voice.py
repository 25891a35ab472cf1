"""The generated voice: what arousal does to it, and that vosk-tiny understands it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from models.errors import UserError
from offline.performer.person import make_person
from offline.performer.script import LINES
from offline.performer.voice import (
    SAMPLE_RATE,
    Delivery,
    Samples,
    Voice,
    delivery_of,
    espeak_version,
    inflect,
    speak,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

VOSK_TINY = Path(__file__).resolve().parents[3] / "models" / "assets" / "vosk-tiny"

spoken = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")


def pitch_hz(samples: Samples) -> float:
    """Median pitch of the voiced part, by autocorrelation of 40 ms blocks."""
    block = round(0.04 * SAMPLE_RATE)
    low, high = SAMPLE_RATE // 400, SAMPLE_RATE // 60
    found = []
    for start in range(0, len(samples) - 2 * block, block):
        x = samples[start : start + 2 * block] - samples[start : start + 2 * block].mean()
        r = np.fft.irfft(np.abs(np.fft.rfft(x, 4 * block)) ** 2)[: 2 * block]
        lag = low + int(np.argmax(r[low:high]))
        if r[0] > 0 and r[lag] > 0.5 * r[0]:
            found.append(SAMPLE_RATE / lag)
    return float(np.median(found))


def heard(samples: Samples) -> str:
    """What vosk-tiny makes of it."""
    import vosk

    vosk.SetLogLevel(-3)
    model = vosk.Model(str(VOSK_TINY))
    recogniser = vosk.KaldiRecognizer(model, SAMPLE_RATE)
    padded = np.concatenate([np.zeros(SAMPLE_RATE // 2), samples, np.zeros(SAMPLE_RATE)])
    recogniser.AcceptWaveform((padded * 32767).astype(np.int16).tobytes())
    return str(json.loads(recogniser.FinalResult())["text"])


@spoken
def test_arousal_makes_a_voice_higher_faster_and_louder() -> None:
    calm, excited = (speak("what a great surprise", Voice(), delivery_of(0.0, a)) for a in (-0.9, 0.9))
    assert pitch_hz(excited) > 1.2 * pitch_hz(calm)
    assert len(excited) < 0.85 * len(calm)
    level = [20 * np.log10(np.sqrt(np.mean(np.square(x)))) for x in (calm, excited)]
    assert 12 < level[1] - level[0] < 20


@spoken
def test_the_same_words_in_the_same_voice_are_the_same_samples() -> None:
    voice, how = Voice("en-us+f2", pitch=55), Delivery(pitch=3, tempo=1.1)
    assert np.array_equal(speak("i am so happy", voice, how), speak("i am so happy", voice, how))


@spoken
def test_a_shorter_vocal_tract_is_higher_but_no_faster() -> None:
    adult, child = (speak("i love my family", Voice(timbre=t), Delivery()) for t in (1.0, 1.06))
    assert pitch_hz(child) > 1.03 * pitch_hz(adult)
    assert len(child) == pytest.approx(len(adult), rel=0.03)


@spoken
def test_text_cannot_be_taken_for_an_option() -> None:
    assert len(speak("--version", Voice(), Delivery())) > SAMPLE_RATE // 4


def level_db(samples: NDArray[np.floating]) -> float:
    return float(10 * np.log10(np.mean(np.square(samples, dtype=np.float64))))


def above_2_khz_db(samples: Samples) -> float:
    """Level of what is above 2 kHz, against the whole."""
    spectrum = np.fft.rfft(samples)
    spectrum[np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE) < 2000] = 0
    return level_db(np.fft.irfft(spectrum, len(samples))) - level_db(samples)


@spoken
def test_a_voice_grows_louder_and_brighter_while_it_speaks() -> None:
    said = speak("this is a very good day and i feel great about it", Voice(), Delivery(level_db=-6))
    louder = inflect(said, np.linspace(0, 9, 60), np.zeros(60), np.zeros(60))
    brighter = inflect(said, np.zeros(60), np.linspace(0, 12, 60), np.zeros(60))
    half = len(said) // 2
    rise = [level_db(louder[part]) - level_db(said[part]) for part in (slice(half), slice(half, None))]
    assert 1 < rise[0] < 4
    assert 5 < rise[1] < 9
    brightened = [
        above_2_khz_db(brighter[part]) - above_2_khz_db(said[part])
        for part in (slice(half), slice(half, None))
    ]
    assert 0.5 < brightened[0] < brightened[1] - 1


def swing_at(samples: Samples, hertz: float) -> float:
    """How much of the loudness swings at so many times a second, against its mean."""
    power = np.square(samples, dtype=np.float64)
    turn = np.exp(-2j * np.pi * hertz / SAMPLE_RATE * np.arange(len(power)))
    return float(2 * abs((power * turn).sum()) / power.sum())


@spoken
def test_displeasure_trembles_nine_times_a_second() -> None:
    text = "this is a very bad day and i feel terrible about it"
    said = speak(text, Voice(), Delivery(level_db=-6))
    depths = [np.full(60, delivery_of(valence, 0.0).tremor_db) for valence in (0.6, 0.0, -1.0)]
    at_ease, neutral, displeased = (
        swing_at(inflect(said, np.zeros(60), np.zeros(60), depth), 9.0) for depth in depths
    )
    assert at_ease + 0.2 < neutral < displeased - 0.4


@spoken
def test_a_steady_feeling_changes_nothing_while_it_speaks() -> None:
    said = speak("how are you today", Voice(), Delivery(level_db=-12))
    assert np.allclose(inflect(said, np.zeros(40), np.zeros(40), np.zeros(40)), said, atol=2e-3)


@spoken
def test_vosk_tiny_understands_the_performers() -> None:
    rng = np.random.default_rng(4)
    wrong = 0
    for number in range(20):
        line = LINES[int(rng.integers(len(LINES)))]
        said = speak(line.text, make_person(7, number).voice, delivery_of(*rng.uniform(-1, 1, 2)))
        wrong += heard(said) != line.text
    assert wrong <= 2


@spoken
def test_an_unknown_voice_is_named() -> None:
    with pytest.raises(UserError, match="qqq"):
        speak("hello", Voice("qqq"), Delivery())


def test_without_espeak_ng_the_package_to_install_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="apt-get install espeak-ng"):
        espeak_version()


def test_another_program_of_that_name_is_found_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    impostor = tmp_path / "espeak-ng"
    impostor.write_text("#!/bin/sh\necho hello\n")
    impostor.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(UserError, match="gave no WAV"):
        speak("hello", Voice(), Delivery())
