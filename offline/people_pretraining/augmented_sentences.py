"""Sentences as the audio encoder learns from them: log-mel patches of recordings and of their disturbed copies."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from models.audio.logmel import LogMel
from models.errors import UserError
from offline.people.emotions import place_emotions
from offline.people.sound import read_sound
from offline.people.sound_augmentation import SoundAugmentation, augment_sound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from offline.people.emodb import Recording
    from offline.people_pretraining.teachers import VoiceTeacher

Float32 = NDArray[np.float32]

_MASKS: Final = 2
_MASK_BANDS: Final = 9
_MASK_FRAMES: Final = 13
_SHIFT: Final = 2


@dataclass(frozen=True, eq=False)
class Sentence:
    """A recording and its sound, (n,) mono 16 kHz in [-1, 1]."""

    recording: Recording
    samples: Float32

    @property
    def valence_arousal(self) -> Float32:
        """Where what is played lies, (2,)."""
        place: Float32 = place_emotions([self.recording.emotion])[0].astype(np.float32)
        return place


@dataclass(frozen=True, eq=False)
class AugmentedSentence:
    """A sentence as it is learned from: the log-mel frames (n, bands) of its versions, and a teacher's vectors."""

    sentence: Sentence
    versions: tuple[Float32, ...]
    teacher: Float32 | None


def read_sentences(
    recordings: Sequence[Recording], left_out: Sequence[str]
) -> tuple[list[Sentence], list[Sentence]]:
    """(To learn from, of speakers left out). Raises UserError where a file cannot be read, where a speaker to leave
    out has none, or where nobody is left to learn from.
    """
    speakers = {r.speaker for r in recordings}
    unknown = sorted(set(left_out) - speakers)
    if unknown:
        raise UserError(
            f"there is no speaker {unknown[0]} to leave out: there are {', '.join(sorted(speakers))}"
        )
    if speakers <= set(left_out):
        raise UserError(
            "every speaker is left out: nobody to learn from", way_out="leave out fewer with --leave-out"
        )
    sentences = [Sentence(r, read_sound(r.path)) for r in recordings]
    return (
        [s for s in sentences if s.recording.speaker not in left_out],
        [s for s in sentences if s.recording.speaker in left_out],
    )


def augment_sentences(
    sentences: Sequence[Sentence], versions: int, seed: int, teacher: VoiceTeacher | None
) -> list[AugmentedSentence]:
    """Every sentence with its disturbed copies. Raises UserError for one too short for a single frame."""
    log_mel = LogMel()
    found = []
    for sentence in sentences:
        name = sentence.recording.name
        if len(sentence.samples) < 2 * log_mel.spec.window_samples:
            raise UserError(
                f"{sentence.recording.path} is too short to learn from", way_out="take it out of the folder"
            )
        # A sentence's own seed: leaving one out changes no other.
        random = np.random.default_rng([seed, *name.encode()])
        sounds = [sentence.samples] + [
            augment_sound(sentence.samples, SoundAugmentation(), random) for _ in range(versions - 1)
        ]
        vectors = None if teacher is None else teacher.vectors[name]
        found.append(AugmentedSentence(sentence, tuple(log_mel.forward(sound) for sound in sounds), vectors))
    return found


def make_patches(frames: Float32, ends: Sequence[int], patch_frames: int) -> Float32:
    """The patches (n, patch_frames, bands) that end before frames `ends`; silent where there is no sound."""
    silence = np.full((patch_frames, frames.shape[1]), LogMel().silence, np.float32)
    padded = np.concatenate([silence, frames])
    return np.stack([padded[end : end + patch_frames] for end in ends])


def mask_spectrogram(patch: Float32, random: np.random.Generator) -> Float32:
    """A copy with strips of bands and of frames gone (SpecAugment: Park et al. 2019), its bands shifted as by a
    shorter or longer vocal tract.
    """
    shift = int(random.integers(-_SHIFT, _SHIFT + 1))
    bands = np.clip(np.arange(patch.shape[1]) - shift, 0, patch.shape[1] - 1)
    patch = patch[:, bands]
    mean = patch.mean()
    for _ in range(_MASKS):
        wide, long = int(random.integers(0, _MASK_BANDS)), int(random.integers(0, _MASK_FRAMES))
        band = int(random.integers(0, patch.shape[1] - _MASK_BANDS))
        frame = int(random.integers(0, patch.shape[0] - _MASK_FRAMES))
        patch[:, band : band + wide] = mean
        patch[frame : frame + long] = mean
    return patch


def hash_sentences(sentences: Sequence[Sentence]) -> str:
    """SHA-256 of names and sounds, in hex."""
    digest = hashlib.sha256()
    for sentence in sentences:
        digest.update(sentence.recording.name.encode() + sentence.samples.tobytes())
    return digest.hexdigest()
