"""Decoded sound on its way to 16 kHz mono, run by run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from numpy.typing import NDArray

from stream.sources.events import SAMPLE_RATE, AudioChunk
from stream.sources.file_clock import PlacedSound


class SoundRuns:
    """Each run of contiguous sound through a resampler of its own, placed on the 16 kHz axis.

    Resampled to 16-bit: swresample mixes stereo down without raising the level only where the output is
    integer, and it is what the recogniser takes and the published pipeline's WAV files held.
    """

    def __init__(self) -> None:
        self.trimmed = 0
        """Samples left out because they lay before sample 0."""
        self._resampler: AudioResampler | None = None
        self._form: tuple[int, str, str] | None = None
        self._next = 0
        self._done = 0

    def add(self, frame: AudioFrame, placed: PlacedSound) -> Iterator[AudioChunk]:
        """What comes out for this frame (all of it a little later, by the resampler's delay)."""
        form = (frame.sample_rate, frame.format.name, frame.layout.name)
        if placed.new_run_s is not None or form != self._form:
            # A form changed in the middle needs a new resampler too, but follows on where the last ended.
            yield from self.finish()
            self._resampler = AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
            self._form = form
            if placed.new_run_s is not None:
                self._next = round(placed.new_run_s * SAMPLE_RATE)
        if placed.skip >= frame.samples:
            return
        if placed.skip:
            frame = _without_front(frame, placed.skip)
        frame.pts = None
        assert self._resampler is not None
        yield from self._place(self._resampler.resample(frame))

    def finish(self) -> Iterator[AudioChunk]:
        """The last samples of the run at hand."""
        if self._resampler is not None:
            yield from self._place(self._resampler.resample(None))
            self._resampler = None
            self._form = None

    def _place(self, frames: list[AudioFrame]) -> Iterator[AudioChunk]:
        for frame in frames:
            pcm = frame.to_ndarray().reshape(-1)
            start = self._next
            self._next += len(pcm)
            self.trimmed += min(max(0, -start), len(pcm))
            # Before sample 0, or by a rounding's sample over the end of the last run.
            cut = min(max(0, self._done - start), len(pcm))
            if cut < len(pcm):
                self._done = self._next
                yield AudioChunk(start + cut, pcm[cut:].astype(np.float32) / np.float32(32768))


def _without_front(frame: AudioFrame, skip: int) -> AudioFrame:
    samples: NDArray[Any] = frame.to_ndarray()
    values = skip if frame.format.is_planar else skip * len(frame.layout.channels)
    trimmed = AudioFrame.from_ndarray(
        np.ascontiguousarray(samples[:, values:]), frame.format.name, frame.layout.name
    )
    trimmed.sample_rate = frame.sample_rate
    return trimmed
