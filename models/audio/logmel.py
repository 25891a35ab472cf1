"""VGGish's front end: 16 kHz samples to log-mel frames, at once or as they come, and patches of them.

Source: the published VGGish front end (Hershey et al. 2017): a periodic Hann window, the magnitude of a
zero-padded FFT, triangular mel bands on the HTK scale, log(mel + 0.01). Each frame is computed by itself in
float64, so that its bits do not depend on how the sound was cut into chunks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.spec import LogMelSpec

Float32 = NDArray[np.float32]

_HTK_BREAK_HZ: Final = 700.0
_HTK_Q: Final = 1127.0


def mel_of(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Frequency in hertz to mels (HTK's formula)."""
    return _HTK_Q * np.log1p(hz / _HTK_BREAK_HZ)


def mel_matrix(spec: LogMelSpec) -> NDArray[np.float64]:
    """The (fft/2 + 1, bands) weights that turn magnitudes into bands.

    Triangles are straight lines in mels, not in hertz, and the bin at 0 Hz has no weight (as published).
    """
    bins = spec.fft_samples // 2 + 1
    bin_mel = mel_of(np.linspace(0.0, spec.sample_rate / 2, bins))[:, None]
    lowest, highest = mel_of(np.array([spec.lowest_hz, spec.highest_hz]))
    edges = np.linspace(lowest, highest, spec.bands + 2)
    lower, center, upper = edges[:-2], edges[1:-1], edges[2:]
    rising = (bin_mel - lower) / (center - lower)
    falling = (upper - bin_mel) / (upper - center)
    weights: NDArray[np.float64] = np.maximum(0.0, np.minimum(rising, falling))
    weights[0] = 0.0
    return weights


@dataclass(frozen=True)
class LogMelState:
    """What streaming remembers: samples that later frames still need (read-only, at most a window)."""

    pending: Float32


class LogMel:
    """Samples to log-mel frames. Frame j covers samples [hop*j, hop*j + window); all of them must exist."""

    def __init__(self, spec: LogMelSpec | None = None) -> None:
        self.spec = LogMelSpec() if spec is None else spec
        if self.spec.fft_samples < self.spec.window_samples:
            raise ValueError("fft_samples must be at least window_samples")
        window = self.spec.window_samples
        self._hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
        self._mel = mel_matrix(self.spec)

    @property
    def silence(self) -> float:
        """The value of every band where there is no sound."""
        return float(np.float32(np.log(self.spec.log_offset)))

    def forward(self, samples: Float32) -> Float32:
        """Log-mel frames of `samples` ((n,) mono in [-1, 1]): (frames, bands), none where n < window.

        Raises ValueError for what is not one-dimensional or not finite.
        """
        return self.step(self.initial_state(), samples)[1]

    def initial_state(self) -> LogMelState:
        """The state before the first sample."""
        return LogMelState(_make_read_only(np.zeros(0, np.float32)))

    def step(self, state: LogMelState, samples: Float32) -> tuple[LogMelState, Float32]:
        """Take the next `samples` (n,) and give the frames they complete, (frames, bands) float32.

        Equal, bit for bit, to `forward` over all samples so far, whatever the chunks.
        Raises ValueError for what is not one-dimensional or not finite.
        """
        samples = np.asarray(samples, np.float32)
        if samples.ndim != 1:
            raise ValueError(f"samples must be one-dimensional (mono), not of shape {samples.shape}")
        if not np.isfinite(samples).all():
            raise ValueError("samples must be finite")
        window, hop = self.spec.window_samples, self.spec.hop_samples
        sound = np.concatenate([state.pending, samples])
        if sound.size < window:
            return LogMelState(_make_read_only(sound)), np.zeros((0, self.spec.bands), np.float32)
        segments = np.lib.stride_tricks.sliding_window_view(sound, window)[::hop]
        left = sound[len(segments) * hop :].copy()
        return LogMelState(_make_read_only(left)), self._log_mel(segments)

    def _log_mel(self, segments: Float32) -> Float32:
        magnitudes = np.abs(np.fft.rfft(segments * self._hann, self.spec.fft_samples))
        # One product per frame: a product over all of them may round differently with their number.
        mel = np.matmul(magnitudes[:, None, :], self._mel)[:, 0, :]
        log_mel: Float32 = np.log(mel + self.spec.log_offset).astype(np.float32)
        return log_mel


@dataclass(frozen=True)
class PatchState:
    """The newest log-mel frames on the media axis. `frames[i]` is frame `first_frame + i`, read-only.

    `next_sample` is where sound is expected to go on, None before the first; `forgot` says whether frames
    before `first_frame` held sound that was dropped (otherwise they are silent).
    """

    log_mel: LogMelState
    next_sample: int | None
    first_frame: int
    frames: Float32
    forgot: bool


class RollingPatches:
    """Patches that end wherever asked, over sound placed on the media axis by its own timestamps.

    New sound costs only itself; the newest `history_s` seconds of frames are kept. Sample 0 is the first
    video frame; sound before it (negative samples) counts too. Where no sound came (before the first, in
    gaps, after the last) the samples are zero.
    """

    def __init__(self, spec: LogMelSpec | None = None, history_s: float = 5.0) -> None:
        self.log_mel = LogMel(spec)
        spec = self.log_mel.spec
        self.history_frames = int(history_s * spec.sample_rate / spec.hop_samples)
        if self.history_frames < spec.patch_frames:
            raise ValueError(f"a history of {history_s} s is shorter than one patch")

    def initial_state(self) -> PatchState:
        """The state before any sound."""
        return PatchState(self.log_mel.initial_state(), None, 0, self._silent_frames(0), forgot=False)

    def step(self, state: PatchState, start_sample: int, samples: Float32) -> PatchState:
        """Take `samples` (n,) that begin at `start_sample` of the media axis.

        What overlaps sound already taken is left out: the first to come stays. Raises ValueError for samples
        that are not one-dimensional or not finite.
        """
        spec = self.log_mel.spec
        samples = np.asarray(samples, np.float32)
        expected = state.next_sample
        if expected is None or start_sample - expected > self.history_frames * spec.hop_samples:
            # Go on at the first frame that reaches `start_sample`; all that is remembered before it is silent.
            frame = (start_sample - spec.window_samples) // spec.hop_samples + 1
            past = self._silent_frames(0 if expected is None else self.history_frames)
            expected = frame * spec.hop_samples
            forgot = state.next_sample is not None
            state = PatchState(self.log_mel.initial_state(), expected, frame - len(past), past, forgot)
        lead = start_sample - expected
        samples = samples[-lead:] if lead < 0 else np.concatenate([np.zeros(lead, np.float32), samples])
        log_mel, new = self.log_mel.step(state.log_mel, samples)
        frames = np.concatenate([state.frames, new])
        dropped = max(0, len(frames) - self.history_frames)
        return PatchState(
            log_mel=log_mel,
            next_sample=expected + len(samples),
            first_frame=state.first_frame + dropped,
            frames=_make_read_only(frames[dropped:].copy()),
            forgot=state.forgot or dropped > 0,
        )

    def patch_ending_at(self, state: PatchState, sample: int) -> Float32:
        """The patch (patch_frames, bands) whose last frame is the last that ended at or before `sample`.

        Raises ValueError where it needs sound older than the history.
        """
        spec = self.log_mel.spec
        end = (sample - spec.window_samples) // spec.hop_samples + 1
        begin = end - spec.patch_frames
        if begin < state.first_frame and state.forgot:
            kept_s = state.first_frame * spec.hop_samples / spec.sample_rate
            raise ValueError(f"the patch at sample {sample} needs sound from before {kept_s:.2f} s, dropped")
        patch = self._silent_frames(spec.patch_frames).copy()
        if state.next_sample is None:
            return patch
        frames = state.frames
        if end > state.first_frame + len(frames):
            # The last sound's frames are not full yet: silence fills them, for this answer only.
            lacking = (end - 1) * spec.hop_samples + spec.window_samples - state.next_sample
            silence = np.zeros(min(lacking, spec.window_samples), np.float32)
            frames = np.concatenate([frames, self.log_mel.step(state.log_mel, silence)[1]])
        known = frames[max(0, begin - state.first_frame) : max(0, end - state.first_frame)]
        at = max(0, state.first_frame - begin)
        patch[at : at + len(known)] = known
        return patch

    def _silent_frames(self, frames: int) -> Float32:
        return _make_read_only(np.full((frames, self.log_mel.spec.bands), self.log_mel.silence, np.float32))


def _make_read_only(array: Float32) -> Float32:
    array.flags.writeable = False
    return array
