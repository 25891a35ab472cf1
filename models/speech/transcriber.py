"""The transcriber: sound in, words and their times out, on the media sample axis.

    samples -> 30 ms frames -> webrtcvad -> voice gate -> recogniser -> words, settled mark, voice

Everything happens per 30 ms frame on an absolute grid, so the events are the same whatever the size of the
chunks or the pace at which they come. Synchronous and for one thread.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from models.spec import SAMPLE_RATE
from models.speech.gate import GateSettings, VoiceGate
from models.speech.words import (
    EVERYTHING_SETTLED,
    Settled,
    SpeechEvent,
    VoiceDecided,
    Word,
    WordsRevised,
    guess_times,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from models.speech.recogniser import HeardWord, Recogniser, RecogniserFactory, Samples

FRAME_SAMPLES: Final = 480
FRAME_S: Final = FRAME_SAMPLES / SAMPLE_RATE


@dataclass(frozen=True)
class TranscriberSettings:
    """How sound is cut into utterances; seconds of media time.

    An utterance ends when the gate closes, when the recogniser finds it over, at the first unvoiced frame
    after `soft_limit_s`, and at `max_utterance_s` in any case. Where it ends without a closed gate, somebody
    may be in the middle of a word: words that end within the last `overlap_s`, and the sound from the first
    of them on (at most `carry_s`), go to the next utterance. `vad_mode` is webrtcvad's 0 (lenient) to 3
    (strict). Raises ValueError for values that do not fit together.
    """

    gate: GateSettings = field(default_factory=GateSettings)
    vad_mode: int = 2
    soft_limit_s: float = 6.0
    max_utterance_s: float = 8.0
    overlap_s: float = 0.3
    carry_s: float = 1.2

    def __post_init__(self) -> None:
        if self.vad_mode not in (0, 1, 2, 3):
            raise ValueError(f"vad_mode {self.vad_mode} must be 0, 1, 2 or 3")
        if not 0 <= self.overlap_s <= self.carry_s:
            raise ValueError(f"overlap_s {self.overlap_s} must be in 0 .. carry_s {self.carry_s}")
        if not self.carry_s + FRAME_S <= self.soft_limit_s <= self.max_utterance_s:
            raise ValueError("carry_s, soft_limit_s and max_utterance_s must increase in this order")


@dataclass
class _Utterance:
    """The open utterance: from `first_frame` on, `heard` are the frames its recogniser was given."""

    number: int
    first_frame: int
    recogniser: Recogniser
    heard: list[Samples] = field(default_factory=list)
    words: tuple[Word, ...] = ()

    @property
    def next_frame(self) -> int:
        return self.first_frame + len(self.heard)


class Transcriber:
    """Turns 16 kHz mono sound into words with media times.

    Memory is bounded however long it runs: it holds the open utterance's sound (`max_utterance_s` at
    most) and the gate's pre-roll; who takes the events keeps what they want of the past.
    """

    def __init__(
        self, new_recogniser: RecogniserFactory, settings: TranscriberSettings | None = None
    ) -> None:
        import webrtcvad

        self.settings = settings or TranscriberSettings()
        self._new_recogniser = new_recogniser
        self._vad: Any = webrtcvad.Vad(self.settings.vad_mode)
        self._gate = VoiceGate(self.settings.gate)
        self._state = self._gate.initial_state()
        self._soft_limit = whole_frames(self.settings.soft_limit_s)
        self._hard_limit = whole_frames(self.settings.max_utterance_s)
        self._recent: deque[Samples] = deque(maxlen=self.settings.gate.pre_roll + 1)
        self._pending = np.zeros(0, np.int16)
        self._pending_is_gap = True
        self._started = self._finished = False
        self._utterance: _Utterance | None = None
        self._utterances = 0
        self._settled_s = -math.inf
        self._overlapping = 0

    @property
    def max_lag_s(self) -> float:
        """How far the settled mark can be behind the newest sample, in seconds of media time.

        An utterance, or a pre-roll where that is longer, and the frame that is not full yet.
        """
        return max(self.settings.max_utterance_s, self.settings.gate.pre_roll * FRAME_S) + FRAME_S

    @property
    def position(self) -> int:
        """The sample after the newest one."""
        return self._state.frame * FRAME_SAMPLES + len(self._pending)

    @property
    def overlapping_samples(self) -> int:
        """Samples left out since sound for their time had been given before."""
        return self._overlapping

    def feed(self, start_sample: int, samples: NDArray[Any]) -> list[SpeechEvent]:
        """Takes the next samples and returns what became known.

        `samples` are (n,) int16, or floating in [-1, 1] (clipped); they begin at `start_sample` of the media
        axis. Where that is beyond `position`, the time between is silence: an empty array at a later sample
        says that there is no sound until then. Sound for a time already past is left out and counted. The
        axis begins at sample 0, or at the first sample where that is earlier.

        Raises ValueError for samples of another shape or type, RuntimeError after `finish`.
        """
        if self._finished:
            raise RuntimeError("this transcriber has finished")
        pcm = to_int16(samples)
        if not self._started:
            self._started = True
            self._state = self._gate.initial_state(min(0, start_sample) // FRAME_SAMPLES)
        events: list[SpeechEvent] = []
        if start_sample > self.position:
            self._skip_gap(start_sample - self.position, events)
        late = min(self.position - start_sample, len(pcm))
        if late > 0:
            self._overlapping += late
            pcm = pcm[late:]
        self._cut_into_frames(pcm, gap=False, events=events)
        return events

    def finish(self) -> list[SpeechEvent]:
        """The sound has ended: closes the utterance, settles everything. Nothing more may be fed."""
        events: list[SpeechEvent] = []
        if self._finished:
            return events
        if len(self._pending):
            rest = np.zeros(FRAME_SAMPLES - len(self._pending), np.int16)
            self._cut_into_frames(rest, gap=self._pending_is_gap, events=events)
        if self._utterance is not None:
            self._close_utterance(self._utterance, events, carry=False)
        self._finished = True
        events.append(EVERYTHING_SETTLED)
        return events

    def _cut_into_frames(self, pcm: Samples, *, gap: bool, events: list[SpeechEvent]) -> None:
        if not len(pcm):
            return
        self._pending_is_gap = gap and (self._pending_is_gap or not len(self._pending))
        pcm = np.concatenate([self._pending, pcm])
        whole = len(pcm) // FRAME_SAMPLES * FRAME_SAMPLES
        for at in range(0, whole, FRAME_SAMPLES):
            self._take_frame(pcm[at : at + FRAME_SAMPLES], self._pending_is_gap, events)
            self._pending_is_gap = gap
        self._pending = pcm[whole:].copy()

    def _skip_gap(self, length: int, events: list[SpeechEvent]) -> None:
        """Silence frame by frame until the gate is closed and the past forgotten; the rest at once."""
        silence = np.zeros(FRAME_SAMPLES, np.int16)
        while length > 0:
            quiet = not self._state.open and not any(self._state.history) and not len(self._pending)
            if quiet and length >= FRAME_SAMPLES:
                start = self._state.frame
                self._state = self._gate.skip(self._state, length // FRAME_SAMPLES)
                self._recent.extend([silence] * min(self._state.frame - start, self._recent.maxlen or 0))
                events.append(VoiceDecided(start * FRAME_S, self._state.frame * FRAME_S, False, False))
                self._settle_before(self._gate.earliest(self._state), events)
                length %= FRAME_SAMPLES
            part = min(length, FRAME_SAMPLES - len(self._pending))
            self._cut_into_frames(silence[:part], gap=True, events=events)
            length -= part

    def _take_frame(self, pcm: Samples, gap: bool, events: list[SpeechEvent]) -> None:
        """One frame. The detector is not asked about a gap: there was nothing to hear."""
        frame = self._state.frame
        voiced = not gap and bool(self._vad.is_speech(pcm.tobytes(), SAMPLE_RATE))
        self._recent.append(pcm)
        self._state, gate = self._gate.step(self._state, voiced)
        events.append(VoiceDecided(frame * FRAME_S, (frame + 1) * FRAME_S, voiced, gate.open))
        if gate.emit:
            before = list(self._recent)[-len(gate.emit) :]
            if self._utterance is None:
                self._utterance = self._open_utterance(gate.emit.start)
            over = self._recognise(self._utterance, before)
            age = len(self._utterance.heard)
            if gate.closed_now:
                self._close_utterance(self._utterance, events, carry=False)
            elif over or age >= self._hard_limit or (age >= self._soft_limit and not voiced):
                self._close_utterance(self._utterance, events, carry=True)
            if self._utterance is not None:
                self._update_early_words(self._utterance, events)
        first = self._utterance.first_frame if self._utterance else self._gate.earliest(self._state)
        self._settle_before(first, events)

    def _open_utterance(self, first_frame: int) -> _Utterance:
        number = self._utterances
        self._utterances += 1
        return _Utterance(number, first_frame, self._new_recogniser())

    def _recognise(self, utterance: _Utterance, frames: Iterable[Samples]) -> bool:
        """Gives the frames to the recogniser; does it say, after the last, that the utterance is over?"""
        over = False
        for pcm in frames:
            over = utterance.recogniser.accept(pcm)
            utterance.heard.append(pcm)
        return over

    def _update_early_words(self, utterance: _Utterance, events: list[SpeechEvent]) -> None:
        """The early text, where it differs from what was said before."""
        texts = utterance.recogniser.partial().split()
        if texts == [w.text for w in utterance.words]:
            return
        utterance.words = guess_times(
            texts,
            utterance.words,
            earliest_s=utterance.first_frame * FRAME_S,
            heard_s=utterance.next_frame * FRAME_S,
        )
        events.append(WordsRevised(utterance.number, utterance.words, closed=False))

    def _close_utterance(self, utterance: _Utterance, events: list[SpeechEvent], *, carry: bool) -> None:
        """Final words; with `carry`, what may be cut in two begins the next utterance."""
        words = utterance.recogniser.final()
        length = len(utterance.heard)
        kept, keep_frames = split_at_cut(words, length, self.settings) if carry else (words, length)
        start_s, end_s = utterance.first_frame * FRAME_S, (utterance.first_frame + keep_frames) * FRAME_S
        events.append(WordsRevised(utterance.number, _to_media_time(kept, start_s, end_s), closed=True))
        self._utterance = None
        if carry:
            self._utterance = self._open_utterance(utterance.first_frame + keep_frames)
            self._recognise(self._utterance, utterance.heard[keep_frames:])

    def _settle_before(self, first_frame: int, events: list[SpeechEvent]) -> None:
        until_s = first_frame * FRAME_S
        if until_s > self._settled_s:
            self._settled_s = until_s
            events.append(Settled(until_s))


def whole_frames(length_s: float) -> int:
    """How many whole frames there are in `length_s`."""
    return int(length_s / FRAME_S + 1e-6)


def split_at_cut(
    words: list[HeardWord], length: int, settings: TranscriberSettings
) -> tuple[list[HeardWord], int]:
    """Where an utterance of `length` frames was cut while its speaker went on: what is beyond doubt.

    Returns the words to keep, and the frame (of this utterance) at which the next one begins: at the first
    doubtful word, one that ends within `overlap_s` of the cut; where no word is doubtful, `overlap_s` before
    the cut, but not inside a word that is kept. Never more than `carry_s` before the cut: a doubtful word
    that began earlier is kept as it is.
    """
    cut_s = length * FRAME_S
    doubtful = [
        w for w in words if w.end_s > cut_s - settings.overlap_s and w.start_s >= cut_s - settings.carry_s
    ]
    kept = words[: len(words) - len(doubtful)]
    start_s = (
        doubtful[0].start_s if doubtful else max(kept[-1].end_s if kept else 0.0, cut_s - settings.overlap_s)
    )
    return kept, min(round(start_s / FRAME_S), length)


def _to_media_time(words: list[HeardWord], start_s: float, end_s: float) -> tuple[Word, ...]:
    """Recogniser time to media time, within the utterance."""
    return tuple(
        Word(w.text, min(start_s + w.start_s, end_s), min(start_s + w.end_s, end_s), w.confidence)
        for w in words
    )


def to_int16(samples: NDArray[Any]) -> Samples:
    """(n,) int16 unchanged, floating [-1, 1] scaled and clipped (NaN to 0). Raises ValueError otherwise."""
    if samples.ndim != 1:
        raise ValueError(f"samples must be one-dimensional (mono), not of shape {samples.shape}")
    if samples.dtype == np.int16:
        return samples
    if not np.issubdtype(samples.dtype, np.floating):
        raise ValueError(f"samples must be int16 or floating, not {samples.dtype}")
    level = np.clip(np.nan_to_num(samples.astype(np.float32)), -1, 1)
    pcm: Samples = np.minimum(np.rint(level * 32768), 32767).astype(np.int16)
    return pcm
