"""Words alone: a text said by nobody in particular, as a recogniser would hear it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from models.spec import WindowSpec
from models.speech.words import EVERYTHING_SETTLED, SpeechEvent, Word, WordsRevised
from models.visual.alignment import zero_crop
from offline.judging.live_path import ItemEstimate, LivePath, mean_estimate, settle_all
from stream.estimation.batching import Moment
from stream.perception.features import Availability, FrameFeatures
from stream.perception.speech import transcriber_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

WORD_S: Final = 0.3
"""How long each word takes: 200 words a minute, fluent speech."""

TAIL_S: Final = 0.5
"""After the last word: what was said still counts for a moment."""

_WORDS_ALONE: Final = Availability(visual=False, audio=False)


def utter(words: Sequence[str], longest_s: float) -> list[SpeechEvent]:
    """The words one after another from time 0, in closed utterances of at most `longest_s` seconds."""
    spoken = [Word(text, i * WORD_S, (i + 1) * WORD_S, 1.0) for i, text in enumerate(words)]
    at_once = max(1, int(longest_s / WORD_S + 1e-9))
    return [
        WordsRevised(number, tuple(spoken[begin : begin + at_once]), closed=True)
        for number, begin in enumerate(range(0, len(spoken), at_once))
    ]


def estimate_text(path: LivePath, words: Sequence[str]) -> ItemEstimate:
    """Words said from a fresh state, with nothing to see or to hear beside them.

    The mean over the frames in which they are said, and a short tail.

    Utterances are as long as the transcriber lets them grow. All are known from the first frame on, which changes no
    settled estimate: those wait for the words' final form in any case.
    """
    recipe = path.bundle.manifest.recipe
    longest_s = transcriber_settings(WindowSpec().length, path.frame_rate).max_utterance_s
    said = (*utter(words, longest_s), EVERYTHING_SETTLED)
    crop = zero_crop(recipe.crop)
    silence = np.zeros((recipe.logmel.patch_frames, recipe.logmel.bands), np.float32)
    moments = []
    for index in range(max(1, round((len(words) * WORD_S + TAIL_S) * path.frame_rate))):
        features = FrameFeatures(
            index=index,
            time_s=index / path.frame_rate,
            captured_at=0.0,
            crop=crop,
            patch=silence,
            face=False,
            available=_WORDS_ALONE,
        )
        moments.append(Moment(features, () if index else said))
    return mean_estimate(settle_all(path.estimator_with_words, moments), present=bool(words))
