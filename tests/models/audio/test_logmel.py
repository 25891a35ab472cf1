"""VGGish's front end: equal to the published one, the same in any chunks, and patches on the media axis."""

from __future__ import annotations

import wave
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.audio.logmel import LogMel, PatchState, RollingPatches, mel_matrix
from models.spec import LogMelSpec

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SPEC = LogMelSpec()
HOP, WINDOW, PATCH = SPEC.hop_samples, SPEC.window_samples, SPEC.patch_frames


def noise(samples: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, samples).astype(np.float32)


@pytest.fixture(scope="module")
def log_mel() -> LogMel:
    return LogMel()


@pytest.fixture(scope="module")
def golden(fixtures: Path) -> dict[str, NDArray[np.floating]]:
    with np.load(fixtures / "vggish" / "golden_logmel.npz", allow_pickle=False) as arrays:
        return dict(arrays)


class TestPublishedFrontEnd:
    def test_a_sine_gives_the_published_examples(self, log_mel: LogMel, golden: dict[str, Any]) -> None:
        sine = np.sin(2 * np.pi * 1000 * np.arange(0, 3, 1 / 16_000))
        examples = golden["sine1k_16k_arange_examples"]
        frames = log_mel.forward(sine)[: examples.shape[0] * PATCH]
        assert np.abs(frames.reshape(examples.shape) - examples).max() < 1e-4

    def test_speech_gives_the_published_frames(
        self, log_mel: LogMel, golden: dict[str, Any], fixtures: Path
    ) -> None:
        with wave.open(str(fixtures / "speech" / "vosk_test_digits.wav")) as speech:
            pcm = np.frombuffer(speech.readframes(speech.getnframes()), np.int16)
        expected = golden["vosk_test_digits_logmel"]
        frames = log_mel.forward((pcm / 32768).astype(np.float32))
        assert frames.shape == expected.shape
        assert np.abs(frames - expected).max() < 1e-4

    def test_bands_are_triangles_between_the_edges(self) -> None:
        weights = mel_matrix(SPEC)
        hertz = np.linspace(0, SPEC.sample_rate / 2, weights.shape[0])
        assert weights.shape == (257, 64)
        assert ((weights >= 0) & (weights <= 1)).all()
        assert not weights[(hertz <= SPEC.lowest_hz) | (hertz >= SPEC.highest_hz)].any()
        assert (np.diff(weights[:, 10:].argmax(axis=0)) >= 1).all()

    def test_silence_is_the_offset_alone(self, log_mel: LogMel) -> None:
        frames = log_mel.forward(np.zeros(1_000, np.float32))
        assert frames.dtype == np.float32
        assert (frames == np.float32(np.log(0.01))).all()
        assert log_mel.silence == frames[0, 0]


class TestStreaming:
    @given(lengths=st.lists(st.integers(0, 1_500), max_size=12), seed=st.integers(0, 99))
    @settings(deadline=None, max_examples=60)
    def test_chunks_make_no_difference_to_the_last_bit(self, lengths: list[int], seed: int) -> None:
        log_mel, sound = LogMel(), noise(sum(lengths), seed)
        state, parts = log_mel.initial_state(), []
        for chunk in np.split(sound, np.cumsum(lengths)[:-1]) if lengths else []:
            state, frames = log_mel.step(state, chunk)
            parts.append(frames)
            assert len(state.pending) < WINDOW
        streamed = np.concatenate([np.zeros((0, 64), np.float32), *parts])
        assert np.array_equal(streamed, log_mel.forward(sound))

    @pytest.mark.parametrize(("samples", "frames"), [(0, 0), (399, 0), (400, 1), (559, 1), (560, 2)])
    def test_a_frame_needs_all_its_samples(self, log_mel: LogMel, samples: int, frames: int) -> None:
        assert log_mel.forward(noise(samples)).shape == (frames, 64)

    def test_a_state_can_be_used_twice(self, log_mel: LogMel) -> None:
        state, _ = log_mel.step(log_mel.initial_state(), noise(1_000))
        once, again = log_mel.step(state, noise(700, 1))[1], log_mel.step(state, noise(700, 1))[1]
        assert np.array_equal(once, again)
        with pytest.raises(ValueError, match="read-only"):
            state.pending[0] = 0

    @pytest.mark.parametrize(
        ("samples", "message"),
        [
            (np.zeros((100, 2), np.float32), "one-dimensional"),
            (np.array([0, np.nan], np.float32), "finite"),
            (np.array([0, np.inf], np.float32), "finite"),
        ],
    )
    def test_what_is_no_sound_is_refused(
        self, log_mel: LogMel, samples: NDArray[np.float32], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            log_mel.forward(samples)

    def test_a_window_longer_than_the_transform_is_refused(self) -> None:
        with pytest.raises(ValueError, match="fft_samples"):
            LogMel(LogMelSpec(window_samples=600))


# The last is longer than the history of the law below.
gaps = st.integers(0, 3_000) | st.just(40_000)


class Sound:
    """The media axis laid out whole, for comparison: zeros wherever nothing was heard."""

    BEFORE = 64_000

    def __init__(self, samples: int) -> None:
        self.axis = np.zeros(self.BEFORE + samples, np.float32)

    def put(self, start: int, samples: NDArray[np.float32]) -> None:
        at = self.BEFORE + start
        self.axis[at : at + len(samples)] = samples

    def patch_ending_at(self, sample: int) -> NDArray[np.float32]:
        end = (sample + self.BEFORE - WINDOW) // HOP + 1
        begin, stop = (end - PATCH) * HOP, (end - 1) * HOP + WINDOW
        return LogMel().forward(self.axis[begin:stop])


class TestRollingPatches:
    @given(
        first=st.integers(-3_000, 40_000),
        chunks=st.lists(st.tuples(gaps, st.integers(0, 2_000)), min_size=1, max_size=8),
        back=st.integers(0, 5_000),
        ahead=st.integers(0, 2_000),
    )
    @settings(deadline=None, max_examples=60)
    def test_a_patch_is_that_of_the_whole_axis_wherever_it_ends(
        self, first: int, chunks: list[tuple[int, int]], back: int, ahead: int
    ) -> None:
        """Law: sound in any chunks and with any gaps gives what one pass over everything heard gives."""
        patches, whole = RollingPatches(history_s=2.0), Sound(400_000)
        state, at = patches.initial_state(), first
        for seed, (gap, length) in enumerate(chunks):
            at += gap
            state = patches.step(state, at, noise(length, seed))
            whole.put(at, noise(length, seed))
            at += length
            assert len(state.frames) <= patches.history_frames
        for sample in (at, at - back, at + ahead):
            assert np.array_equal(patches.patch_ending_at(state, sample), whole.patch_ending_at(sample))

    def test_without_sound_there_is_silence(self) -> None:
        patches = RollingPatches()
        patch = patches.patch_ending_at(patches.initial_state(), 123_456)
        assert patch.shape == (96, 64)
        assert (patch == patches.log_mel.silence).all()

    def test_sound_after_the_end_of_a_patch_is_not_read(self) -> None:
        patches = RollingPatches()
        before = patches.step(patches.initial_state(), 0, noise(20_000))
        after = patches.step(before, 20_000, noise(9_000, 1))
        for sample in (400, 16_000, 20_000):
            assert np.array_equal(
                patches.patch_ending_at(before, sample), patches.patch_ending_at(after, sample)
            )

    def test_sound_that_starts_late_leaves_silence_before_it(self) -> None:
        """One fixture's audio starts 2.43 s after its video."""
        patches = RollingPatches()
        state = patches.step(patches.initial_state(), 38_880, noise(16_000))
        assert (patches.patch_ending_at(state, 1_000) == patches.log_mel.silence).all()
        half = patches.patch_ending_at(state, 38_880 + 8_000)
        assert (half[:40] == patches.log_mel.silence).all()
        assert (half[-40:] != patches.log_mel.silence).all()

    def test_a_gap_of_an_hour_is_silence_and_costs_nothing(self) -> None:
        patches, hour = RollingPatches(), 3_600 * 16_000
        state = patches.step(patches.initial_state(), 0, noise(16_000))
        state = patches.step(state, hour, noise(16_000))
        assert len(state.frames) <= patches.history_frames
        assert (patches.patch_ending_at(state, hour) == patches.log_mel.silence).all()
        alone = patches.step(patches.initial_state(), hour, noise(16_000))
        assert np.array_equal(
            patches.patch_ending_at(state, hour + 16_000), patches.patch_ending_at(alone, hour + 16_000)
        )

    @given(shift=st.integers(0, 3_000))
    @settings(deadline=None, max_examples=20)
    def test_of_overlapping_sound_the_first_to_come_stays(self, shift: int) -> None:
        patches = RollingPatches()
        first = patches.step(patches.initial_state(), 0, noise(4_000))
        again = patches.step(first, 4_000 - shift, noise(2_000, 1))
        expected = patches.step(first, 4_000, noise(2_000, 1)[shift:])
        same_state(again, expected)

    def test_what_was_dropped_is_refused_not_invented(self) -> None:
        patches = RollingPatches(history_s=2.0)
        state = patches.step(patches.initial_state(), 0, noise(80_000))
        patches.patch_ending_at(state, 80_000 - 16_000)
        with pytest.raises(ValueError, match="dropped"):
            patches.patch_ending_at(state, 80_000 - 32_000)

    def test_a_history_shorter_than_a_patch_is_refused(self) -> None:
        with pytest.raises(ValueError, match="shorter than one patch"):
            RollingPatches(history_s=0.9)


def same_state(a: PatchState, b: PatchState) -> None:
    assert (a.next_sample, a.first_frame, a.forgot) == (b.next_sample, b.first_frame, b.forgot)
    assert np.array_equal(a.frames, b.frames)
    assert np.array_equal(a.log_mel.pending, b.log_mel.pending)
