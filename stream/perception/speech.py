"""The recogniser beside the frames: sound in, speech events out, in a thread of its own.

For recordings the caller waits for the events of all sound up to a frame, so the same file gives the same
events at the same frames at any pace. Live, it never waits: what is late comes with a later frame, and sound
that stays away for `GRACE_S` counts as silence, so that frames settle when a microphone is lost.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import numpy as np

from models.speech.transcriber import Transcriber, TranscriberSettings
from models.speech.words import EVERYTHING_SETTLED, SpeechEvent
from stream.sources.events import SAMPLE_RATE, AudioChunk

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.speech.recogniser import HeardWord, RecogniserFactory, Samples

WAITING_CHUNKS: Final = 256
"""Live sound that may wait for the recogniser; beyond it new sound is dropped, counted, and heard as silence."""

LATE_S: Final = 0.1
"""Sound this much older than a frame will not come any more: containers and resamplers hold back less."""

GRACE_S: Final = 1.0
"""How long live sound may stay away before it is taken for silence; what still comes after that is left out."""

_NOTHING: Final[NDArray[np.float32]] = np.zeros(0, np.float32)


class NoRecogniser:
    """Takes the place of a recogniser where none is installed: the voice gate still works, no words are found."""

    def accept(self, samples: Samples) -> bool:
        """Never ends an utterance."""
        return False

    def partial(self) -> str:
        """No text."""
        return ""

    def final(self) -> list[HeardWord]:
        """No words."""
        return []


def transcriber_settings(window_frames: int, frame_rate: float) -> TranscriberSettings:
    """Utterances short enough that their words settle before their first frame leaves the window."""
    longest_s = min(8.0, 0.85 * window_frames / max(frame_rate, 1.0))
    if longest_s < 1.6:
        return TranscriberSettings(
            soft_limit_s=longest_s, max_utterance_s=longest_s, carry_s=0.3, overlap_s=0.2
        )
    return TranscriberSettings(soft_limit_s=max(0.75 * longest_s, 1.5), max_utterance_s=longest_s)


class Speech:
    """A transcriber in its own thread. `hear`, `catch_up`, `keep_up` and `finish` must be called from one thread.

    Where the source has no sound at all, everything is settled from the start.
    """

    def __init__(
        self, new_recogniser: RecogniserFactory | None, settings: TranscriberSettings, *, has_sound: bool
    ) -> None:
        self.dropped_chunks = 0
        self._handed_sample = 0
        self._transcriber = Transcriber(new_recogniser or NoRecogniser, settings) if has_sound else None
        self._thread = ThreadPoolExecutor(1, "speech")
        self._pending: deque[Future[list[SpeechEvent]]] = deque()
        self._ready_events: list[SpeechEvent] = [] if has_sound else [EVERYTHING_SETTLED]

    def hear(self, chunk: AudioChunk, *, wait: bool = False) -> None:
        """Hands sound to the recogniser. Where too much waits for it already, drops the sound and counts it, or,
        for a recording, waits.
        """
        if self._transcriber is None:
            return
        if len(self._pending) >= WAITING_CHUNKS:
            if not wait:
                self.dropped_chunks += 1
                return
            self._ready_events.extend(self._pending.popleft().result())
        self._handed_sample = max(self._handed_sample, chunk.end_sample)
        self._pending.append(self._thread.submit(self._transcriber.feed, chunk.start_sample, chunk.samples))

    def catch_up(self, time_s: float) -> list[SpeechEvent]:
        """Everything known once all sound up to `time_s` was heard; what never came is silence. Waits."""
        if self._transcriber is not None:
            upto = max(0, int((time_s - LATE_S) * SAMPLE_RATE))
            self._pending.append(self._thread.submit(self._transcriber.feed, upto, _NOTHING))
        return self._collect_events(wait=True)

    def keep_up(self, time_s: float) -> list[SpeechEvent]:
        """What has become known by now; sound that stayed away until `GRACE_S` before `time_s` is silence. Does
        not wait.
        """
        upto = int((time_s - GRACE_S) * SAMPLE_RATE)
        if (
            self._transcriber is not None
            and self._handed_sample < upto
            and len(self._pending) < WAITING_CHUNKS
        ):
            self._handed_sample = upto
            self._pending.append(self._thread.submit(self._transcriber.feed, upto, _NOTHING))
        return self._collect_events(wait=False)

    def finish(self) -> list[SpeechEvent]:
        """The sound has ended: everything that is left. Waits."""
        if self._transcriber is not None:
            self._pending.append(self._thread.submit(self._transcriber.finish))
        return self._collect_events(wait=True)

    @property
    def waiting_chunks(self) -> int:
        """Pieces of sound that wait for the recogniser."""
        return len(self._pending)

    @property
    def late_samples(self) -> int:
        """Sound that came when its time had been taken for silence, and was left out."""
        return 0 if self._transcriber is None else self._transcriber.overlapping_samples

    def close(self) -> None:
        """Ends the thread; what was still waiting is not heard."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _collect_events(self, *, wait: bool) -> list[SpeechEvent]:
        events, self._ready_events = self._ready_events, []
        while self._pending and (wait or self._pending[0].done()):
            events.extend(self._pending.popleft().result())
        return events
