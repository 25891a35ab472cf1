"""Decoded sound on its way to 16 kHz mono: a recording's run by run, a live source's piece by piece."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from stream.sources.captures import CapturedSound
from stream.sources.events import SAMPLE_RATE, AudioChunk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from stream.sources.file_clock import PlacedSound

PIECE_SAMPLES: Final = 160
"""The least that is handed on of live sound: 10 ms."""


class MonoResampler:
    """Decoded sound of one form to 16 kHz mono float32 in [-1, 1].

    By way of 16-bit: swresample mixes stereo down without raising the level only where the output is integer, and
    it is what the recogniser takes and the published pipeline's WAV files held.
    """

    def __init__(self, like: AudioFrame) -> None:
        self._form = _sound_form(like)
        self._resampler = AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)

    def fits(self, frame: AudioFrame) -> bool:
        """Whether the frame has the rate, sample format and channels that this is for."""
        return _sound_form(frame) == self._form

    def step(self, frame: AudioFrame | None) -> list[NDArray[np.float32]]:
        """What comes out for this frame (all of it a little later, by the resampler's delay); None: the rest."""
        if frame is not None:
            frame.pts = None
        return [
            out.to_ndarray().reshape(-1).astype(np.float32) / np.float32(32768)
            for out in self._resampler.resample(frame)
        ]


def _sound_form(frame: AudioFrame) -> tuple[int, str, str]:
    return frame.sample_rate, frame.format.name, frame.layout.name


class SoundRuns:
    """A recording's sound: each run of contiguous sound through a resampler of its own, placed on the 16 kHz axis."""

    def __init__(self) -> None:
        self.trimmed = 0
        """Samples left out because they lay before sample 0."""
        self._resampler: MonoResampler | None = None
        self._next = 0
        self._done = 0

    def step(self, frame: AudioFrame, placed: PlacedSound) -> Iterator[AudioChunk]:
        """What comes out for this frame."""
        if placed.new_run_s is not None or self._resampler is None or not self._resampler.fits(frame):
            # A form changed in the middle needs a new resampler too, but follows on where the last ended.
            yield from self.finish()
            self._resampler = MonoResampler(frame)
            if placed.new_run_s is not None:
                self._next = round(placed.new_run_s * SAMPLE_RATE)
        if placed.skip >= frame.samples:
            return
        if placed.skip:
            frame = _trim_front(frame, placed.skip)
        yield from self._place(self._resampler.step(frame))

    def finish(self) -> Iterator[AudioChunk]:
        """The last samples of the run at hand."""
        if self._resampler is not None:
            yield from self._place(self._resampler.step(None))
            self._resampler = None

    def _place(self, resampled: list[NDArray[np.float32]]) -> Iterator[AudioChunk]:
        for samples in resampled:
            start = self._next
            self._next += len(samples)
            self.trimmed += min(max(0, -start), len(samples))
            # Before sample 0, or by a rounding's sample over the end of the last run.
            cut = min(max(0, self._done - start), len(samples))
            if cut < len(samples):
                self._done = self._next
                yield AudioChunk(start + cut, samples[cut:])


def _trim_front(frame: AudioFrame, skip: int) -> AudioFrame:
    samples: NDArray[Any] = frame.to_ndarray()
    values = skip if frame.format.is_planar else skip * len(frame.layout.channels)
    trimmed = AudioFrame.from_ndarray(
        np.ascontiguousarray(samples[:, values:]), frame.format.name, frame.layout.name
    )
    trimmed.sample_rate = frame.sample_rate
    return trimmed


class LiveSoundPieces:
    """A live source's sound in pieces of at least `PIECE_SAMPLES` that know when they were captured."""

    def __init__(self) -> None:
        self._resampler: MonoResampler | None = None
        self._in_resampler = 0.0
        self._end_s = 0.0
        self._held: list[NDArray[np.float32]] = []
        self._held_samples = 0

    def step(self, frame: AudioFrame, at_s: float) -> list[CapturedSound]:
        """What is ready once this frame, captured at `at_s` on the arrival clock, has come."""
        if self._resampler is None or not self._resampler.fits(frame):
            self._resampler, self._in_resampler = MonoResampler(frame), 0.0
        # What is still in the resampler and in hand was captured before this frame.
        start_s = at_s - (self._in_resampler + self._held_samples) / SAMPLE_RATE
        self._end_s = at_s + frame.samples / frame.sample_rate
        self._in_resampler += frame.samples * SAMPLE_RATE / frame.sample_rate
        for samples in self._resampler.step(frame):
            self._in_resampler -= len(samples)
            self._held.append(samples)
            self._held_samples += len(samples)
        if self._held_samples < PIECE_SAMPLES:
            return []
        return [self._take_held(start_s)]

    def finish(self) -> list[CapturedSound]:
        """The rest, however short: no more frames come."""
        if self._resampler is None:
            return []
        start_s = self._end_s - (self._in_resampler + self._held_samples) / SAMPLE_RATE
        self._held += self._resampler.step(None)
        self._resampler = None
        return [self._take_held(start_s)] if self._held else []

    def _take_held(self, start_s: float) -> CapturedSound:
        piece = CapturedSound(start_s, np.concatenate(self._held))
        self._held, self._held_samples = [], 0
        return piece
