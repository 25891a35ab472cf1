"""The sound of a composed trial: sentences said in its episodes, over the noise of one room."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from models.spec import LogMelSpec
from offline.composer.material import Comment, Sentence, choose_near
from offline.composer.perceived import Channel
from offline.people.sound_augmentation import SoundAugmentation, augment_sound, background

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from offline.composer.episodes import Episode

SAMPLE_RATE: Final = LogMelSpec().sample_rate

CLEAR_SHARE: Final = 0.5
"""How often a trial's sentences are as they were recorded, but for level and a little speed; in other trials each is
heard through another microphone in another room. What is only ever heard badly is not believed when it is heard well.
"""

_CLEAR: Final = SoundAugmentation(
    speed=0.03, tilt_db_per_octave=0.0, ripple_db=0.0, noise_share=0.0, reverb_share=0.0
)


@dataclass(frozen=True, eq=False)
class Utterance:
    """A sentence that begins at `start_s`, its samples (n,), what its voice says, and the words that are heard in it
    (None: none that are understood).
    """

    start_s: float
    samples: NDArray[np.float32]
    feeling: NDArray[np.float32]
    comment: Comment | None

    @property
    def end_s(self) -> float:
        """When it ends."""
        return self.start_s + len(self.samples) / SAMPLE_RATE


def draw_utterances(
    episodes: Sequence[Episode],
    sentences: Sequence[Sentence],
    comments: Sequence[Comment],
    random: np.random.Generator,
) -> list[Utterance]:
    """What is said: sentences one after another through each episode in which the person talks.

    A trial has one speaker. Voice and words are near the feeling, neutral or of another feeling, as the episode says.
    """
    speaker = str(random.choice(sorted({s.speaker for s in sentences})))
    own = [s for s in sentences if s.speaker == speaker]
    of_voices = np.stack([s.feeling for s in own])
    of_words = np.stack([c.feeling for c in comments])
    how = _CLEAR if random.random() < CLEAR_SHARE else SoundAugmentation()
    said: list[Utterance] = []
    free_s = 0.0
    for episode in episodes:
        if episode.voice is None:
            continue
        now_s = max(free_s, episode.start_s + random.uniform(0.0, 0.6))
        other = int(random.integers(len(own)))
        while now_s < episode.end_s - 0.8:
            felt = episode.feeling_at(now_s)
            wanted = {
                "agrees": felt,
                "neutral": np.zeros(2, np.float32),
                "differs": of_voices[other],
            }[episode.voice]
            sentence = own[choose_near(of_voices, wanted, random, near=0.25)]
            samples = augment_sound(sentence.samples, how, random)
            comment = _choose_comment(episode, felt, len(samples) / SAMPLE_RATE, comments, of_words, random)
            utterance = Utterance(now_s, samples, sentence.feeling, comment)
            said.append(utterance)
            now_s = free_s = utterance.end_s + float(random.uniform(0.15, 0.8))
    return said


def mix_sound(
    utterances: Sequence[Utterance], length_s: float, random: np.random.Generator
) -> NDArray[np.float32]:
    """The whole trial's sound (n,): the utterances over the room's own noise."""
    sound = background(round(length_s * SAMPLE_RATE), random)
    for utterance in utterances:
        start = round(utterance.start_s * SAMPLE_RATE)
        piece = utterance.samples[: len(sound) - start]
        sound[start : start + len(piece)] += piece
    mixed: NDArray[np.float32] = np.clip(sound, -1, 1)
    return mixed


def voice_channel(utterances: Sequence[Utterance], frames: int, frame_rate: float) -> Channel:
    """What the voice says at each frame."""
    return _channel([(u.start_s, u.end_s, u.feeling) for u in utterances], frames, frame_rate)


def words_channel(utterances: Sequence[Utterance], frames: int, frame_rate: float) -> Channel:
    """What the words say at each frame."""
    spans = [(u.start_s, u.end_s, u.comment.feeling) for u in utterances if u.comment is not None]
    return _channel(spans, frames, frame_rate)


def mouth_track(utterances: Sequence[Utterance], frames: int, frame_rate: float) -> NDArray[np.float32]:
    """How wide the mouth stands open at each frame, 0 to 1: as loud as what is being said."""
    track = np.zeros(frames, np.float32)
    hop = SAMPLE_RATE / frame_rate
    for utterance in utterances:
        loudest = np.sqrt(np.mean(utterance.samples**2)) * 2 + 1e-6
        for k in range(int(utterance.start_s * frame_rate), min(frames, int(utterance.end_s * frame_rate))):
            begin = int(k * hop - utterance.start_s * SAMPLE_RATE)
            piece = utterance.samples[max(0, begin) : max(0, begin) + int(1.5 * hop)]
            if len(piece):
                track[k] = min(1.0, float(np.sqrt(np.mean(piece**2))) / loudest)
    return track


def _channel(
    spans: Sequence[tuple[float, float, NDArray[np.float32]]], frames: int, frame_rate: float
) -> Channel:
    feelings, active = np.zeros((frames, 2), np.float32), np.zeros(frames, np.bool_)
    for start_s, end_s, feeling in spans:
        some = slice(round(start_s * frame_rate), round(end_s * frame_rate))
        feelings[some], active[some] = feeling, True
    return Channel(feelings, active)


def _choose_comment(
    episode: Episode,
    felt: NDArray[np.float32],
    length_s: float,
    comments: Sequence[Comment],
    of_words: NDArray[np.float32],
    random: np.random.Generator,
) -> Comment | None:
    if episode.words is None or episode.words == "unheard":
        return None
    some = random.integers(len(comments), size=600)
    fitting = [i for i in some if 1.8 * length_s <= len(comments[i].words) <= 4.5 * length_s]
    if not fitting:
        return None
    wanted = {"agrees": felt, "neutral": np.zeros(2, np.float32), "differs": of_words[fitting[0]]}[
        episode.words
    ]
    chosen: Comment = comments[fitting[choose_near(of_words[fitting], wanted, random)]]
    return chosen
