"""The same sentence by another microphone, in another room, a little faster or higher: all numpy, all seeded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.spec import LogMelSpec

Float32 = NDArray[np.float32]
SAMPLE_RATE: Final = LogMelSpec().sample_rate


@dataclass(frozen=True)
class SoundAugmentation:
    """How far each disturbance goes; each is drawn anew for every sentence."""

    gain_db: tuple[float, float] = (-18.0, 6.0)
    """Around the recording's own level; EmoDB's peaks are at full scale, microphones' are not."""
    speed: float = 0.1
    tilt_db_per_octave: float = 1.0
    ripple_db: float = 2.5
    noise_snr_db: tuple[float, float] = (12.0, 40.0)
    noise_share: float = 0.5
    reverb_share: float = 0.25
    reverb_s: tuple[float, float] = (0.05, 0.35)


def augment_sound(samples: Float32, how: SoundAugmentation, random: np.random.Generator) -> Float32:
    """A disturbed copy; its length changes with the speed."""
    sound = _resampled(samples, 1.0 + random.uniform(-how.speed, how.speed))
    size = len(sound)
    tail = int(how.reverb_s[1] * SAMPLE_RATE)
    fft = 1 << (size + tail - 1).bit_length()
    spectrum = np.fft.rfft(sound, fft) * _colour(fft, how, random)
    if random.random() < how.reverb_share:
        spectrum *= np.fft.rfft(_room(how, random), fft)
    sound = np.fft.irfft(spectrum, fft)[:size]
    level = np.sqrt(np.mean(samples**2)) / max(np.sqrt(np.mean(sound**2)), 1e-9)
    sound *= level  # colour and room change the level by chance; the gain is drawn by itself
    if random.random() < how.noise_share:
        snr_db = random.uniform(*how.noise_snr_db)
        sound += _noise(size, random) * np.sqrt(np.mean(sound**2)) * 10 ** (-snr_db / 20)
    sound *= 10 ** (random.uniform(*how.gain_db) / 20)
    return np.clip(sound, -1.0, 1.0).astype(np.float32)


def background(size: int, random: np.random.Generator) -> Float32:
    """A room in which nobody speaks: silence or noise of some colour and level."""
    level = 10 ** (random.uniform(-90.0, -30.0) / 20)
    return (_noise(size, random) * level).astype(np.float32)


def _resampled(samples: Float32, speed: float) -> NDArray[np.float64]:
    at = np.arange(int(len(samples) / speed)) * speed
    slower: NDArray[np.float64] = np.interp(at, np.arange(len(samples)), samples)
    return slower


def _colour(fft: int, how: SoundAugmentation, random: np.random.Generator) -> NDArray[np.float64]:
    """A microphone's response: a tilt, and a smooth ripple along octaves."""
    octaves = np.log2(np.maximum(np.fft.rfftfreq(fft, 1 / SAMPLE_RATE), 50.0) / 1000.0)
    knots = np.arange(-5.0, 4.0)
    ripple = np.interp(octaves, knots, random.uniform(-how.ripple_db, how.ripple_db, len(knots)))
    tilt = random.uniform(-how.tilt_db_per_octave, how.tilt_db_per_octave)
    decibels: NDArray[np.float64] = tilt * octaves + ripple
    return 10 ** (decibels / 20)


def _room(how: SoundAugmentation, random: np.random.Generator) -> NDArray[np.float64]:
    """An impulse and an exponentially decaying noise after it."""
    decay_s = random.uniform(*how.reverb_s)
    times = np.arange(int(how.reverb_s[1] * SAMPLE_RATE)) / SAMPLE_RATE
    tail = random.standard_normal(len(times)) * 10 ** (-3.0 * times / decay_s)
    tail *= random.uniform(0.1, 0.6) / np.sqrt((tail**2).sum())
    tail[0] += 1.0
    return tail


def _noise(size: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Of unit power, between white and brown."""
    slope = random.uniform(0.0, 1.0)
    spectrum = np.fft.rfft(random.standard_normal(size))
    spectrum *= np.maximum(np.arange(len(spectrum)), 5.0) ** -slope
    noise = np.fft.irfft(spectrum, size)
    level: NDArray[np.float64] = noise / np.sqrt(np.mean(noise**2))
    return level
