"""What happens in a composed trial, one episode after another: what is felt, what the face shows, what is said. Pure.

No free recording of real people has continuous labels, so trials are composed of parts that have some: pictures that
people voted on, sentences that actors said in a named mood, comments with named emotions. An episode is a few seconds
in which one feeling is held or one turns into another. The face mostly shows it, at times shows nothing or something
else, or is not there; the person talks or is silent; voice and words agree with the face as often as they do in
people, which is far from always.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

Feeling = NDArray[np.float32]
"""(2,): valence and arousal in [-1, 1]."""

Mode = TypeVar("Mode", bound=str)

FaceMode = Literal["shows", "neutral", "differs", "absent"]
VoiceMode = Literal["agrees", "neutral", "differs"]
WordsMode = Literal["agrees", "neutral", "differs", "unheard"]

FACE_MODES: Final[dict[FaceMode, float]] = {
    "shows": 0.68,
    "neutral": 0.14,
    "differs": 0.04,
    "absent": 0.14,
}
VOICE_MODES: Final[dict[VoiceMode, float]] = {"agrees": 0.5, "neutral": 0.2, "differs": 0.3}
WORDS_MODES: Final[dict[WordsMode, float]] = {"agrees": 0.5, "neutral": 0.2, "differs": 0.1, "unheard": 0.2}
"""How often each happens, as parts of one. Unheard words are of a language that the recogniser does not know."""

TALKING_SHARE: Final = 0.55
"""How often a person talks during an episode."""

TURNING_SHARE: Final = 0.3
"""How often an episode turns one feeling into another rather than holding one."""

SHORTEST_S: Final = 2.0
LONGEST_S: Final = 9.0


@dataclass(frozen=True, eq=False)
class Episode:
    """Some seconds of a trial, from `start_s` to `end_s`: a feeling held, or `felt` turning into `becomes`.

    `voice` and `words` are None where the person is silent.
    """

    start_s: float
    end_s: float
    felt: Feeling
    becomes: Feeling
    face: FaceMode
    voice: VoiceMode | None
    words: WordsMode | None

    def feeling_at(self, time_s: float) -> Feeling:
        """What is felt at a time: held, or turning as a smooth step does."""
        share = min(1.0, max(0.0, (time_s - self.start_s) / (self.end_s - self.start_s)))
        step = share * share * (3 - 2 * share)
        return self.felt + np.float32(step) * (self.becomes - self.felt)


def draw_episodes(
    length_s: float, feelings: NDArray[np.float32], random: np.random.Generator
) -> list[Episode]:
    """Episodes that fill `length_s` seconds; feelings are of `feelings` (n, 2), all areas of the plane alike."""
    chances = level_density(feelings)
    episodes: list[Episode] = []
    now_s = 0.0
    while now_s < length_s:
        felt = feelings[random.choice(len(feelings), p=chances)]
        turns = random.random() < TURNING_SHARE
        becomes = feelings[random.choice(len(feelings), p=chances)] if turns else felt
        lasts_s = float(np.clip(random.lognormal(1.35, 0.45), SHORTEST_S, LONGEST_S))
        talks = random.random() < TALKING_SHARE
        episodes.append(
            Episode(
                now_s,
                min(length_s, now_s + lasts_s),
                felt,
                becomes,
                _draw(FACE_MODES, random),
                _draw(VOICE_MODES, random) if talks else None,
                _draw(WORDS_MODES, random) if talks else None,
            )
        )
        now_s += lasts_s
    return episodes


def level_density(feelings: NDArray[np.float32], cells: int = 8) -> NDArray[np.float64]:
    """Chances (n,) under which rare feelings are drawn more often: each by one over the root of how many lie in its
    cell of the plane.
    """
    cell = np.clip(((feelings + 1) / 2 * cells).astype(int), 0, cells - 1)
    index = cell[:, 0] * cells + cell[:, 1]
    chances = 1 / np.sqrt(np.bincount(index, minlength=cells * cells)[index])
    found: NDArray[np.float64] = chances / chances.sum()
    return found


def _draw(shares: dict[Mode, float], random: np.random.Generator) -> Mode:
    names = list(shares)
    return names[random.choice(len(names), p=np.array(list(shares.values())) / sum(shares.values()))]
