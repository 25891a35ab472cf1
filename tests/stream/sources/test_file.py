"""Recorded files: every decodable frame once, sound placed by its own timestamps, damage passed over and
counted.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from models.errors import UserError
from stream.sources.events import SAMPLE_RATE, AudioChunk, VideoFrame
from stream.sources.file import MediaFile
from tests.stream.recordings import CLIPS, steady, tone, write_recording


def read(file: MediaFile) -> tuple[list[VideoFrame], list[AudioChunk]]:
    """All of a file, checked against what every source promises."""
    frames: list[VideoFrame] = []
    chunks: list[AudioChunk] = []
    for event in file.events():
        if isinstance(event, VideoFrame):
            assert event.index == len(frames)
            assert not frames or event.time_s > frames[-1].time_s
            assert event.rgb.dtype == np.uint8
            assert event.rgb.flags.c_contiguous
            frames.append(event)
        else:
            assert isinstance(event, AudioChunk)
            assert event.start_sample >= (chunks[-1].end_sample if chunks else 0)
            assert event.samples.dtype == np.float32
            assert len(event.samples) > 0
            assert float(np.abs(event.samples).max()) <= 1.0
            # Merged: no sound comes after a frame that it belongs before.
            assert not frames or event.start_sample > frames[-1].time_s * SAMPLE_RATE
            chunks.append(event)
    assert frames[0].time_s == 0
    return frames, chunks


def sound_of(chunks: list[AudioChunk]) -> np.ndarray:
    """The chunks on one axis, silence in the gaps."""
    out = np.zeros(chunks[-1].end_sample, np.float32)
    for chunk in chunks:
        out[chunk.start_sample : chunk.end_sample] = chunk.samples
    return out


@pytest.mark.parametrize("clip", CLIPS)
def test_every_frame_and_all_sound_of_a_real_recording(fixtures: Path, clip: str) -> None:
    path = fixtures / "clips" / clip
    with av.open(str(path)) as container:
        stamps = [float(frame.time) for frame in container.decode(video=0)]
    with av.open(str(path)) as container:
        sound = [(float(f.time or 0.0), f.samples / f.sample_rate) for f in container.decode(audio=0)]

    file = MediaFile(path)
    frames, chunks = read(file)

    assert [frame.time_s for frame in frames] == pytest.approx([s - stamps[0] for s in stamps])
    first_s, last_s = sound[0][0] - stamps[0], sound[-1][0] + sound[-1][1] - stamps[0]
    assert chunks[0].start_sample == pytest.approx(max(0.0, first_s) * SAMPLE_RATE, abs=1)
    assert chunks[-1].end_sample == pytest.approx(last_s * SAMPLE_RATE, abs=32)
    # No seams in sound that has none, whatever the container's rounding.
    assert sum(len(c.samples) for c in chunks) == chunks[-1].end_sample - chunks[0].start_sample
    mended = {k: n for k, n in file.counters.items() if n and k != "audio_before_video_samples"}
    assert mended == {}
    assert (file.info.height, file.info.width) == frames[0].rgb.shape[:2]
    assert file.info.has_audio
    mean_step = frames[-1].time_s / (len(frames) - 1)
    assert file.info.frame_rate == pytest.approx(1 / mean_step, rel=0.02)


def test_facts_of_the_recording_with_late_sound_and_a_varying_rate(fixtures: Path) -> None:
    file = MediaFile(fixtures / "clips" / "face_noface.mov")
    frames, chunks = read(file)
    steps = np.diff([frame.time_s for frame in frames])
    assert len(frames) == 169
    assert steps.min() < 0.015
    assert steps.max() > 0.041
    assert chunks[0].start_sample == pytest.approx(2.43 * SAMPLE_RATE, abs=SAMPLE_RATE / 1000)
    assert file.info.video_codec == "hevc"
    assert file.info.duration_s == pytest.approx(6.4, abs=0.05)


def test_sound_that_starts_before_the_picture_is_trimmed(fixtures: Path) -> None:
    # FLV: sound at 0, first picture at 27 ms.
    file = MediaFile(fixtures / "clips" / "1001_DFA_ANG_XX.flv")
    _, chunks = read(file)
    assert chunks[0].start_sample == 0
    assert file.counters["audio_before_video_samples"] == round(0.027 * SAMPLE_RATE)


def test_reading_twice_gives_the_same(fixtures: Path) -> None:
    path = fixtures / "clips" / "weekly_address_5s.mp4"
    file = MediaFile(path)
    frames, chunks = read(file)
    for again in (file, MediaFile(path)):
        other_frames, other_chunks = read(again)
        assert len(other_frames) == len(frames)
        for a, b in zip(frames, other_frames, strict=True):
            assert a.time_s == b.time_s
            assert np.array_equal(a.rgb, b.rgb)
        for c, d in zip(chunks, other_chunks, strict=True):
            assert c.start_sample == d.start_sample
            assert np.array_equal(c.samples, d.samples)


def test_a_tone_comes_out_where_and_as_it_was(tmp_path: Path) -> None:
    heard = tone(1.0)
    path = write_recording(tmp_path / "a.mkv", steady(25), [(0.0, heard)])
    _, chunks = read(MediaFile(path))
    assert np.array_equal(sound_of(chunks), heard.astype(np.float32) / 32768)


def test_stereo_is_averaged_and_resampled_not_raised(tmp_path: Path) -> None:
    left = tone(1.0, rate=48_000, level=0.9)
    path = write_recording(
        tmp_path / "a.mkv", steady(25), [(0.0, np.stack([left, left], axis=1))], rate=48_000, piece=1024
    )
    _, chunks = read(MediaFile(path))
    sound = sound_of(chunks)
    assert len(sound) == pytest.approx(SAMPLE_RATE, abs=2)
    expected = tone(1.0, level=0.9).astype(np.float32) / 32768
    middle = slice(1000, 15_000)
    assert np.abs(sound[middle] - expected[middle]).max() < 0.01


def test_no_sound_at_all(tmp_path: Path) -> None:
    file = MediaFile(write_recording(tmp_path / "a.mkv", steady(10)))
    frames, chunks = read(file)
    assert (len(frames), chunks) == (10, [])
    assert not file.info.has_audio
    assert file.info.audio_codec is None
    assert "audio_undecodable" not in file.counters


def test_an_audio_stream_without_sound_counts_as_absent(tmp_path: Path) -> None:
    file = MediaFile(write_recording(tmp_path / "a.mkv", steady(10), []))
    frames, chunks = read(file)
    assert (len(frames), chunks) == (10, [])
    assert not file.info.has_audio
    assert file.counters["audio_undecodable"] == 1


def test_counters_are_what_they_were_when_asked_for_and_name_what_happened(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "a.mkv", steady(50), [(0.0, tone(0.5)), (1.2, tone(0.5))])
    file = MediaFile(path)
    before = file.counters
    read(file)
    assert before == {}
    assert file.counters == {"audio_gaps": 1}


def test_a_gap_in_the_sound_moves_what_follows(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "a.mkv", steady(50), [(0.0, tone(0.5)), (1.2, tone(0.5))])
    file = MediaFile(path)
    _, chunks = read(file)
    starts = [c.start_sample for c in chunks]
    assert round(1.2 * SAMPLE_RATE) in starts
    assert all(c.end_sample <= 0.5 * SAMPLE_RATE or c.start_sample >= 1.2 * SAMPLE_RATE for c in chunks)
    assert file.counters["audio_gaps"] == 1


def test_sound_that_overlaps_is_trimmed_and_counted(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "a.mkv", steady(50), [(0.0, tone(1.0)), (0.8, tone(0.6))])
    file = MediaFile(path)
    _, chunks = read(file)
    assert chunks[-1].end_sample == pytest.approx(1.4 * SAMPLE_RATE, abs=20)
    assert sum(len(c.samples) for c in chunks) == chunks[-1].end_sample
    assert file.counters["audio_overlap_samples"] == pytest.approx(0.2 * SAMPLE_RATE, abs=400)


@pytest.mark.parametrize(("start_s", "seconds"), [(0.0, 0.3), (0.4, 0.3), (0.9, 3.0), (5.0, 1.0)])
def test_sound_shorter_later_or_longer_than_the_picture(
    tmp_path: Path, start_s: float, seconds: float
) -> None:
    path = write_recording(tmp_path / "a.mkv", steady(25), [(start_s, tone(seconds))])
    frames, chunks = read(MediaFile(path))
    assert len(frames) == 25
    assert chunks[0].start_sample == pytest.approx(start_s * SAMPLE_RATE, abs=16)
    assert chunks[-1].end_sample == pytest.approx((start_s + seconds) * SAMPLE_RATE, abs=16)


def test_the_first_picture_is_zero(tmp_path: Path) -> None:
    heard = tone(1.5)
    path = write_recording(tmp_path / "a.mkv", steady(25, start_s=0.5), [(0.0, heard)])
    file = MediaFile(path)
    frames, chunks = read(file)
    assert frames[0].time_s == 0
    assert file.counters["audio_before_video_samples"] == SAMPLE_RATE // 2
    assert np.array_equal(sound_of(chunks), heard[SAMPLE_RATE // 2 :].astype(np.float32) / 32768)


@pytest.mark.parametrize("size", [(33, 17), (1, 1), (130, 50)])
def test_odd_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    file = MediaFile(write_recording(tmp_path / "a.mkv", steady(3), size=size, video_codec="ffv1"))
    frames, _ = read(file)
    assert frames[0].rgb.shape == (size[1], size[0], 3)
    assert (file.info.width, file.info.height) == size


def test_scaling_bounds_the_longer_side_and_never_enlarges(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "a.mkv", steady(3), size=(130, 50))
    frames, _ = read(MediaFile(path, max_long_side=65))
    assert frames[0].rgb.shape == (25, 65, 3)
    frames, _ = read(MediaFile(path, max_long_side=500))
    assert frames[0].rgb.shape == (50, 130, 3)


def test_a_telephone_recording_is_turned_upright(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "a.mp4", steady(5), size=(64, 48), video_codec="mpeg4")
    raw = bytearray(path.read_bytes())
    matrix = raw.index(b"tkhd") + 4 + 40
    # A quarter turn clockwise, as telephones held upright write it.
    raw[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 48 << 16, 0, 1 << 30)
    path.write_bytes(raw)
    file = MediaFile(path)
    frames, _ = read(file)
    rgb = frames[0].rgb
    assert rgb.shape == (64, 48, 3)
    assert (file.info.width, file.info.height) == (48, 64)
    # The white top left corner went to the top right.
    assert rgb[4, 43].min() > 200
    assert rgb[4, 4].max() < 60


def test_a_file_cut_short_gives_what_is_left(tmp_path: Path) -> None:
    whole = write_recording(tmp_path / "whole.mkv", steady(50), [(0.0, tone(2.0))])
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    frames, chunks = read(MediaFile(cut))
    assert 15 < len(frames) < 40
    assert chunks[-1].end_sample / SAMPLE_RATE == pytest.approx(frames[-1].time_s, abs=0.3)


def test_damage_in_the_middle_is_passed_over_counted_and_repeats(fixtures: Path, tmp_path: Path) -> None:
    raw = bytearray((fixtures / "clips" / "weekly_address_5s.mp4").read_bytes())
    noise = np.random.default_rng(5).integers(0, 256, 60_000, dtype=np.uint8).tobytes()
    middle = len(raw) // 2
    raw[middle : middle + len(noise)] = noise
    path = tmp_path / "damaged.mp4"
    path.write_bytes(raw)
    file = MediaFile(path)
    frames, chunks = read(file)
    assert 90 < len(frames) <= 147
    assert frames[-1].time_s == pytest.approx(4.87, abs=0.05)
    assert file.counters["decode_errors"] + file.counters["corrupt_frames"] > 0
    again, _ = read(MediaFile(path))
    assert len(again) == len(frames)
    assert all(np.array_equal(a.rgb, b.rgb) for a, b in zip(frames, again, strict=True))
    assert chunks


def test_frame_times_that_repeat_or_go_back_are_mended(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.08, 0.08, 0.06, 0.2, 0.24]
    path = write_recording(tmp_path / "a.mkv", times, stamp_packets=True)
    file = MediaFile(path)
    frames, _ = read(file)
    assert [f.time_s for f in frames[:3]] == pytest.approx([0.0, 0.04, 0.08])
    assert [f.time_s for f in frames[5:]] == pytest.approx([0.2, 0.24])
    assert file.counters["video_pts_mended"] == 2


def test_a_recording_that_jumps_back_goes_on(tmp_path: Path) -> None:
    """Two recordings joined byte by byte: the second's clock starts again."""
    part = write_recording(
        tmp_path / "part.ts",
        steady(75),
        [(0.0, tone(3.0, rate=48_000))],
        rate=48_000,
        video_codec="mpeg4",
        audio_codec="mp2",
        piece=1152,
    )
    joined = tmp_path / "joined.ts"
    joined.write_bytes(part.read_bytes() * 2)
    file = MediaFile(joined)
    frames, chunks = read(file)
    assert len(frames) >= 148
    assert frames[-1].time_s == pytest.approx(6.0, abs=0.15)
    assert chunks[-1].end_sample / SAMPLE_RATE == pytest.approx(6.0, abs=0.15)
    assert file.counters["video_jumps_back"] == 1
    assert file.counters["audio_jumps_back"] == 1


def test_leaving_early_closes_the_file(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "a.mkv", steady(25), [(0.0, tone(1.0))])
    events: Any = MediaFile(path).events()
    next(events)
    events.close()
    with pytest.raises(StopIteration):
        next(events)
    descriptors = Path("/proc/self/fd")
    if descriptors.is_dir():
        held = [d for d in descriptors.iterdir() if d.exists() and d.resolve() == path.resolve()]
        assert held == []


def test_close_ends_a_running_iteration(tmp_path: Path) -> None:
    file = MediaFile(write_recording(tmp_path / "a.mkv", steady(25)))
    events = file.events()
    next(events)
    file.close()
    assert list(events) == []


class TestRefusals:
    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"gone\.mp4: no such file"):
            MediaFile(tmp_path / "gone.mp4")

    def test_folder(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="is a folder"):
            MediaFile(tmp_path)

    @pytest.mark.parametrize("content", [b"", b"not a video at all\n" * 50, bytes(5000)])
    def test_not_media(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "a.mp4"
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"a\.mp4"):
            MediaFile(path)

    def test_index_lost(self, fixtures: Path, tmp_path: Path) -> None:
        raw = (fixtures / "clips" / "weekly_address_5s.mp4").read_bytes()
        path = tmp_path / "a.mp4"
        path.write_bytes(raw.replace(b"moov", b"junk"))
        with pytest.raises(UserError, match="cannot be read as a recording"):
            MediaFile(path)

    def test_sound_only(self, fixtures: Path) -> None:
        with pytest.raises(UserError, match="has no picture"):
            MediaFile(fixtures / "speech" / "jfk.flac")

    def test_nothing_decodes(self, tmp_path: Path) -> None:
        path = write_recording(tmp_path / "a.mkv", steady(5), video_codec="mpeg4")
        raw = path.read_bytes()
        clusters = raw.index(bytes.fromhex("1F43B675"))
        body = bytearray(raw)
        with av.open(str(path)) as container:
            for packet in container.demux(video=0):
                if packet.size:
                    at = raw.index(bytes(packet), clusters)
                    body[at : at + packet.size] = bytes(packet.size)
        path.write_bytes(body)
        with pytest.raises(UserError, match="no picture in it can be decoded"):
            MediaFile(path)

    def test_playlists_reach_no_network(self, tmp_path: Path) -> None:
        path = tmp_path / "a.m3u8"
        path.write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n")
        with pytest.raises(UserError, match=r"a\.m3u8"):
            MediaFile(path)
