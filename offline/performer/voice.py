"""A generated voice: espeak-ng speech whose pitch, tempo, loudness and brightness follow how the speaker feels."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.errors import UserError

Samples = NDArray[np.float32]

SAMPLE_RATE: Final = 44_100
_ESPEAK_RATE: Final = 22_050
_COMMAND: Final = "espeak-ng"
_TILT_STEP_DB: Final = 3.0
_TREMOR_HZ: Final = 9.0

# Ranges in which the recogniser that ships (vosk-tiny) was trained, with some room left at the ends.
SLOWEST_WPM, FASTEST_WPM = 125, 210
LOWEST_PITCH, HIGHEST_PITCH = 12, 88


@dataclass(frozen=True)
class Voice:
    """Who speaks: an espeak-ng voice (`en-us+f2`) and the speaker's own habits.

    `pitch` (espeak-ng's 0 to 99) and `rate_wpm` (words a minute) are those of a person who feels nothing in
    particular. `timbre` stretches the spectrum (1.05: formants and pitch 5 % higher, as of a shorter vocal
    tract), `tilt_db` brightens (or dulls) it by so much at 4 kHz.
    """

    name: str = "en-us"
    pitch: float = 45.0
    rate_wpm: float = 165.0
    timbre: float = 1.0
    tilt_db: float = 0.0


@dataclass(frozen=True)
class Delivery:
    """How a sentence is said, against the speaker's habit: pitch (espeak-ng units), tempo (a factor), level (dB).

    `timbre` and `tilt_db` colour the voice as those of `Voice` do, on top of them. `tremor_db`: by how much the level
    swings up and down while the voice trembles.
    """

    pitch: float = 0.0
    tempo: float = 1.0
    level_db: float = 0.0
    timbre: float = 1.0
    tilt_db: float = 0.0
    tremor_db: float = 0.0


def delivery_of(valence: float, arousal: float) -> Delivery:
    """The prosody of a feeling: arousal raises pitch, tempo and level; valence raises the pitch a little, and smiles;
    displeasure trembles.

    A smile widens the mouth: formants rise and the voice brightens (Tartter 1980). The other directions are as
    measured for acted speech (Scherer 2003; Goudbeek and Scherer 2010).
    """
    return Delivery(
        pitch=22.0 * arousal + 7.0 * valence,
        tempo=1.0 + 0.20 * arousal,
        level_db=9.0 * arousal + 1.0 * valence,
        timbre=1.0 + 0.03 * valence,
        tilt_db=12.0 * valence,
        tremor_db=4.0 * max(0.0, 0.5 - valence),
    )


def espeak_version() -> str:
    """What `espeak-ng --version` says. Raises UserError, naming the Debian package, where it is not installed."""
    said = _run(["--version"], "")
    return said.decode("utf-8", "replace").split("Data at")[0].strip()


def speak(text: str, voice: Voice, delivery: Delivery) -> Samples:
    """The sentence as mono float32 at 44.1 kHz, without the silence around it; RMS about 0.08 at 0 dB.

    Raises UserError where espeak-ng is missing or does not know the voice.
    """
    voice = replace(voice, timbre=voice.timbre * delivery.timbre, tilt_db=voice.tilt_db + delivery.tilt_db)
    pitch = float(np.clip(voice.pitch + delivery.pitch, LOWEST_PITCH, HIGHEST_PITCH))
    # The timbre's stretch changes tempo too: ask for the tempo that it turns into the wanted one.
    rate = float(np.clip(voice.rate_wpm * delivery.tempo, SLOWEST_WPM, FASTEST_WPM)) / voice.timbre
    arguments = ["-v", voice.name, "-p", str(round(pitch)), "-s", str(round(rate)), "-a", "100", "--stdout"]
    raw = _wave_samples(_run(arguments, text))
    if not np.any(raw):
        raise UserError(f"espeak-ng said nothing with voice '{voice.name}': see `espeak-ng --voices=en`")
    spoken = np.flatnonzero(np.abs(raw) > 0.004)
    raw = raw[max(0, spoken[0] - 200) : spoken[-1] + 1200]
    sound = _colour(raw, voice)
    level = 0.08 * 10 ** (delivery.level_db / 20)
    sound = sound * (level / float(np.sqrt(np.mean(np.square(sound)))))
    # Loud speech meets a soft limit rather than a hard edge.
    return _limited(sound)


def inflect(
    said: Samples,
    level_db: NDArray[np.float64],
    tilt_db: NDArray[np.float64],
    tremor_db: NDArray[np.float64],
) -> Samples:
    """The same sentence growing louder and brighter, or fainter and duller, and trembling, while it is said.

    All are (n,), spread evenly over the sentence, and come on top of what it was said with.
    """
    at = np.linspace(0, len(level_db) - 1, len(said))
    level, tilt, tremor = (np.interp(at, np.arange(len(x)), x) for x in (level_db, tilt_db, tremor_db))
    trembling = np.sin(2 * np.pi * _TREMOR_HZ / SAMPLE_RATE * np.arange(len(said)))
    gain = 10 ** ((level + tremor * trembling) / 20)
    spectrum = np.fft.rfft(said)
    octaves = _octaves(np.arange(len(spectrum)) * (SAMPLE_RATE / len(said)))
    # A tilt between two steps is a mixture of both.
    steps = tilt / _TILT_STEP_DB
    sound = np.zeros(len(said))
    for step in range(int(np.floor(steps.min())), int(np.ceil(steps.max())) + 1):
        share = np.clip(1 - np.abs(steps - step), 0, 1)
        tilted = np.fft.irfft(spectrum * 10 ** (step * _TILT_STEP_DB / 20 * octaves), len(said))
        sound += share * tilted
    return _limited(gain * sound)


def _limited(sound: NDArray[np.float64]) -> Samples:
    limited = np.tanh(sound / 0.9) * 0.9
    return limited.astype(np.float32)


def _octaves(hertz: NDArray[np.floating]) -> NDArray[np.float64]:
    """How much of a tilt there is at these frequencies: none up to 250 Hz, all of it at 4 kHz."""
    octaves: NDArray[np.float64] = np.clip(np.log2(np.maximum(hertz, 250) / 250) / 4, 0, 1.2)
    return octaves


def _run(arguments: list[str], text: str) -> bytes:
    """One call of espeak-ng: the text goes in by standard input, so that no text is taken for an option."""
    found = shutil.which(_COMMAND)
    if found is None:
        raise UserError("espeak-ng is not installed: apt-get install espeak-ng")
    try:
        done = subprocess.run(
            [found, *arguments], input=text.encode(), capture_output=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        detail = (getattr(error, "stderr", None) or b"").decode("utf-8", "replace").strip() or str(error)
        raise UserError(
            f"espeak-ng failed ({' '.join(arguments)}: {detail})",
            way_out="install it again: apt-get install espeak-ng",
        ) from error
    return done.stdout


def _wave_samples(wave: bytes) -> NDArray[np.float64]:
    """Samples of espeak-ng's WAV (mono, 16 bit, 22.05 kHz), streamed, so that its header knows no length."""
    start = wave.find(b"data")
    rate = int.from_bytes(wave[24:28], "little")
    if start < 0 or rate != _ESPEAK_RATE:
        raise UserError(
            f"espeak-ng gave no WAV at {_ESPEAK_RATE} Hz: is something else named espeak-ng first in PATH?"
        )
    body = wave[start + 8 :]
    return np.frombuffer(body[: len(body) // 2 * 2], np.int16).astype(np.float64) / 32768


def _colour(raw: NDArray[np.float64], voice: Voice) -> NDArray[np.float64]:
    """Resample to 44.1 kHz in the frequency domain, with the voice's stretch and tilt in the same step."""
    count = round(len(raw) / voice.timbre)
    spectrum = np.fft.rfft(raw)
    hertz = np.arange(len(spectrum)) * (_ESPEAK_RATE / len(raw)) * voice.timbre
    spectrum *= 10 ** (voice.tilt_db / 20 * _octaves(hertz))
    length = 2 * count
    wanted = np.zeros(length // 2 + 1, complex)
    kept = min(len(spectrum), len(wanted))
    wanted[:kept] = spectrum[:kept]
    return np.fft.irfft(wanted, length) * (length / len(raw))
