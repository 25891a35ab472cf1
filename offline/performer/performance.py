"""A performance: one person, one trajectory, and what of it reaches face, voice and words.

Each channel tells its own part. The face shows valence well and arousal less so; the voice the other way round;
words name what is felt when they are begun, while the voice's level, brightness and tremor go on with it.
Each has noise of its own that no other channel shares, and spells in which it tells nothing: a poker face, a flat
voice, small talk, silence. And there are guarded spells, in which face and voice go flat together and only what is
said tells anything. So none can replace another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from offline.performer.expression import express
from offline.performer.script import LINES, SMALL_TALK, Line, choose_line
from offline.performer.trajectory import Series, wander
from offline.performer.voice import SAMPLE_RATE, Delivery, Samples, delivery_of, inflect, speak

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from offline.performer.facial_features import Pose
    from offline.performer.person import Person

_ROOM_TONE: Final = 4e-4
_REMEMBERED_LINES: Final = 12


@dataclass(frozen=True)
class Channel:
    """What one channel makes of valence and arousal: noise of its own (standard deviation), and mute spells.

    `mute` is the part of the time that it tells nothing, in spells of about `spell_s` seconds.
    """

    valence_noise: float
    arousal_noise: float
    mute: float
    spell_s: float = 4.0
    noise_time_s: float = 3.0


@dataclass(frozen=True)
class Expressiveness:
    """The three channels, guarded spells, and how often the speaker falls silent for longer.

    `guarded` is the part of the time that neither face nor voice tells anything, in spells of about
    `guarded_spell_s` seconds. `vagueness` is how far a sentence may be from what its speaker means (`choose_line`).
    `silences` is the part of pauses that are long.
    """

    face: Channel = Channel(valence_noise=0.17, arousal_noise=0.32, mute=0.12)
    voice: Channel = Channel(valence_noise=0.1, arousal_noise=0.09, mute=0.04)
    words: Channel = Channel(valence_noise=0.07, arousal_noise=0.2, mute=0.2)
    guarded: float = 0.07
    guarded_spell_s: float = 5.0
    vagueness: float = 0.12
    silences: float = 0.06


FULLY_EXPRESSIVE: Final = Expressiveness(
    face=Channel(valence_noise=0.05, arousal_noise=0.06, mute=0.0),
    voice=Channel(valence_noise=0.05, arousal_noise=0.05, mute=0.0),
    words=Channel(valence_noise=0.05, arousal_noise=0.08, mute=0.0),
    guarded=0.0,
    vagueness=0.22,
    silences=0.0,
)


@dataclass(frozen=True)
class Utterance:
    """A sentence as it was said: when, and what."""

    start_s: float
    end_s: float
    line: Line


@dataclass(frozen=True)
class Performance:
    """What there is to record: labels (frames, 2), a pose for each frame, mono sound at 44.1 kHz, what is said."""

    person: Person
    frame_rate: float
    labels: Series
    poses: list[Pose]
    samples: Samples
    utterances: tuple[Utterance, ...]


def perform(
    person: Person,
    labels: Series,
    *,
    seed: int,
    frame_rate: float = 30.0,
    expressiveness: Expressiveness | None = None,
) -> Performance:
    """Perform a trajectory, (frames, 2) in [-1, 1]. The same seed gives the same performance, sample for sample.

    Raises UserError where espeak-ng is missing.
    """
    how = expressiveness or Expressiveness()
    streams = [np.random.default_rng([seed, person.seed, purpose]) for purpose in range(7)]
    unguarded = _draw_gate(streams[6], len(labels), how.guarded, how.guarded_spell_s, frame_rate)
    shown = labels * unguarded[:, None]
    face, _ = _pass_through_channel(streams[0], shown, how.face, frame_rate)
    voice, _ = _pass_through_channel(streams[1], shown, how.voice, frame_rate)
    words, telling = _pass_through_channel(streams[2], labels, how.words, frame_rate)
    samples, utterances = _speak_sentences(streams[3], person, voice, words, telling, frame_rate, how)
    samples += _room_tone(streams[4], len(samples))
    face = np.clip(face * person.habits.face_gain, -1.1, 1.1)
    poses = express(face, _loudness(samples, len(labels), frame_rate), person.habits, streams[5], frame_rate)
    return Performance(person, frame_rate, labels, poses, samples, utterances)


def _pass_through_channel(
    rng: np.random.Generator, felt: Series, channel: Channel, frame_rate: float
) -> tuple[Series, Series]:
    """What a channel tells of a feeling, (frames, 2), and how far it tells anything, (frames,) in [0, 1]."""
    frames = len(felt)
    gate = _draw_gate(rng, frames, channel.mute, channel.spell_s, frame_rate)
    told = felt * gate[:, None]
    for column, spread in enumerate((channel.valence_noise, channel.arousal_noise)):
        noise = wander(rng, frames, frame_rate, time_constant_s=channel.noise_time_s, spread=spread)
        told[:, column] += noise
    return np.clip(told, -1.1, 1.1), gate


def _draw_gate(
    rng: np.random.Generator, frames: int, mute: float, spell_s: float, frame_rate: float
) -> Series:
    """1 while a channel tells, 0 in its mute spells, with half a second between them: (frames,)."""
    gate = np.ones(frames)
    if mute <= 0:
        return gate
    told_s = spell_s * (1 - mute) / mute
    at = float(rng.exponential(told_s)) * frame_rate
    while at < frames:
        spell = rng.uniform(0.6, 1.4) * spell_s * frame_rate
        gate[int(at) : int(at + spell)] = 0
        at += spell + float(rng.exponential(told_s)) * frame_rate
    ramp = np.hanning(max(3, round(0.5 * frame_rate)) + 2)
    padded = np.pad(gate, len(ramp) // 2, mode="edge")
    smoothed: Series = np.convolve(padded, ramp / ramp.sum(), mode="same")[len(ramp) // 2 :][:frames]
    return smoothed


def _speak_sentences(
    rng: np.random.Generator,
    person: Person,
    voice: Series,
    words: Series,
    telling: Series,
    frame_rate: float,
    expressiveness: Expressiveness,
) -> tuple[Samples, tuple[Utterance, ...]]:
    """Sentences with pauses of 0.5 to 1.2 s until the time is up; small talk where words tell nothing."""
    frames = len(voice)
    samples = np.zeros(round(frames / frame_rate * SAMPLE_RATE), np.float32)
    utterances: list[Utterance] = []
    at = round(rng.uniform(0.3, 0.7) * SAMPLE_RATE)
    while at < len(samples):
        frame = min(frames - 1, round((at / SAMPLE_RATE + 0.8) * frame_rate))
        recent = {u.line.text for u in utterances[-_REMEMBERED_LINES:]}
        lines = LINES if telling[frame] > 0.5 else SMALL_TALK
        line = choose_line(rng, *words[frame], spoken=recent, lines=lines, vagueness=expressiveness.vagueness)
        said = speak(line.text, person.voice, _delivery(person, voice[frame]))
        if at + len(said) > len(samples):
            break
        first, last = (round(sample / SAMPLE_RATE * frame_rate) for sample in (at, at + len(said)))
        said = _modulate(person, said, voice[frame], voice[first : last + 1])
        samples[at : at + len(said)] += said
        utterances.append(Utterance(at / SAMPLE_RATE, (at + len(said)) / SAMPLE_RATE, line))
        pause_s = rng.uniform(2.5, 4.5) if rng.random() < expressiveness.silences else rng.uniform(0.5, 1.2)
        at += len(said) + round(pause_s * SAMPLE_RATE)
    return samples, tuple(utterances)


def _delivery(person: Person, told: NDArray[np.float64]) -> Delivery:
    """The prosody of what the voice tells, in this person's way."""
    valence, arousal = person.habits.voice_gain * told + (0, person.habits.voice_bias)
    return delivery_of(float(valence), float(arousal))


def _modulate(person: Person, said: Samples, meant: NDArray[np.float64], told: Series) -> Samples:
    """A sentence begun as `meant` whose breath goes on with what the voice tells, (frames, 2), meanwhile: words,
    pitch and tempo are chosen once; level, brightness and tremor are not.
    """
    at_first = _delivery(person, meant)
    now = [_delivery(person, moment) for moment in told]
    return inflect(
        said,
        np.array([delivery.level_db - at_first.level_db for delivery in now]),
        np.array([delivery.tilt_db - at_first.tilt_db for delivery in now]),
        np.array([delivery.tremor_db for delivery in now]),
    )


def _room_tone(rng: np.random.Generator, count: int) -> Samples:
    """The faint rush of a quiet room, about -68 dB: no recording is digitally silent."""
    white = rng.standard_normal(count + 1).astype(np.float32)
    return (_ROOM_TONE * (0.7 * white[1:] + 0.7 * white[:-1])).astype(np.float32)


def _loudness(samples: Samples, frames: int, frame_rate: float) -> Series:
    """How loud each video frame is, (frames,): 0 in a pause, about 1 at a strong vowel."""
    edges = np.round(np.arange(frames + 1) / frame_rate * SAMPLE_RATE).astype(int)
    sums = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    edges = np.minimum(edges, len(samples))
    power = np.diff(sums[edges]) / np.maximum(np.diff(edges), 1)
    loudness: Series = np.clip(np.maximum(np.sqrt(power) - 0.006, 0) / 0.14, 0, 1.2) ** 0.7
    return loudness


def script_text(performance: Performance) -> str:
    """What is said, as CSV: start and end in seconds, the valence and arousal of the words, the sentence."""
    rows = (
        f"{u.start_s:.3f},{u.end_s:.3f},{u.line.valence},{u.line.arousal},{u.line.text}\n"
        for u in performance.utterances
    )
    return "start_s,end_s,valence,arousal,text\n" + "".join(rows)
