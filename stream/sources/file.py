"""Recorded files: every decodable frame once, and their sound, merged by time with bounded memory."""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.stream import Disposition
from av.video.frame import VideoFrame as Picture
from av.video.reformatter import VideoReformatter

from models.errors import UserError
from stream.messages import InputStatus
from stream.sources.decoding import decode_packet
from stream.sources.events import SAMPLE_RATE, AudioChunk, SourceEvent, SourceInfo, VideoFrame
from stream.sources.file_clock import FrameClock, SoundClock, step_frame_clock, step_sound_clock
from stream.sources.resample import SoundRuns
from stream.sources.scaling import MOST_LONG_SIDE, decode_small, fitted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from av.container import InputContainer
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

_CONVERT: Final = "convert it where it can be played: ffmpeg -i FILE talk.mp4"

FALLBACK_RATE: Final = 25.0
SPEED_LIMIT: Final = 1000.0

# A file whose reading fails is tried again this often in a row before the rest counts as lost.
READ_ATTEMPTS: Final = 16

# Packets tried before an audio stream counts as having no decodable sound.
PROBE_PACKETS: Final = 256

# Timestamps may lie beyond the duration that the container claims by this much and still be believed.
DURATION_SLACK_S: Final = 30.0


class MediaFile:
    """A recorded file with a picture and, perhaps, sound.

    `max_long_side` scales pictures down (never up) so that the longer side is at most that many pixels; decoders
    that can are told to give no more.

    `counters`, all summed over the runs of `events()`: `decode_errors` (packets that did not decode),
    `read_errors`, `corrupt_frames` (decoded, marked damaged), `video_pts_missing`, `video_pts_mended`,
    `video_jumps_back`, `audio_undecodable` (1: the file has an audio stream but no sound in it),
    `audio_pts_missing`, `audio_pts_mended`, `audio_jumps_back`, `audio_gaps`, `audio_overlaps`,
    `audio_overlap_samples` and `audio_before_video_samples` (both at 16 kHz, trimmed).

    Raises `UserError` where the path is no file, cannot be read as media, or has no decodable picture.
    """

    live: Final = False

    def __init__(self, path: str | Path, *, max_long_side: int = MOST_LONG_SIDE) -> None:
        self.path = Path(path)
        if max_long_side < 1:
            raise ValueError(f"max_long_side must be at least 1, not {max_long_side}")
        self._max_long_side = max_long_side
        self._counters: Counter[str] = Counter()
        self._closed = threading.Event()
        self._audio_index: int | None = None
        self._zero_s, self._info = self._probe()

    @property
    def info(self) -> SourceInfo:
        """What the file is."""
        return self._info

    @property
    def counters(self) -> Mapping[str, int]:
        """What was skipped or mended so far; absent names are 0."""
        return Counter(self._counters)  # copied in one step, while the thread that reads may count on

    @property
    def measures(self) -> Mapping[str, float]:
        """Nothing: a file's clocks are what they are."""
        return {}

    @property
    def inputs(self) -> Mapping[str, InputStatus]:
        """Its picture and its sound, under the names that live inputs have."""
        return {
            "camera": InputStatus("ok", f"{self.info.name} ({self.info.video_codec})"),
            "microphone": InputStatus("ok", f"{self.info.name} ({self.info.audio_codec})")
            if self.info.has_audio
            else InputStatus("off", "the recording has no sound"),
        }

    def close(self) -> None:
        """Ends running `events()` at their next event."""
        self._closed.set()

    def events(self) -> Iterator[SourceEvent]:
        """Frames and sound merged by time; repeatable, and the same every time but for `captured_at`.

        The file is opened once per stream, so however far apart sound and picture lie in the file, no more
        than one piece of each is held.
        """
        sound = self._read_sound() if self._audio_index is not None else iter(())
        frames = self._read_frames()
        try:
            chunk = next(sound, None)
            for frame in frames:
                while chunk is not None and chunk.start_sample <= frame.time_s * SAMPLE_RATE:
                    if self._closed.is_set():
                        return
                    yield chunk
                    chunk = next(sound, None)
                if self._closed.is_set():
                    return
                yield frame
            while chunk is not None and not self._closed.is_set():
                yield chunk
                chunk = next(sound, None)
        finally:
            for running in (frames, sound):
                close = getattr(running, "close", None)
                if close is not None:
                    close()

    def _open_container(self) -> InputContainer:
        """A container on the file; a playlist posing as one must not reach the network: files only."""
        try:
            container = av.open(
                str(self.path.resolve()), metadata_errors="replace", options={"protocol_whitelist": "file"}
            )
        except PermissionError:
            raise UserError(
                f"{self.path} cannot be read: you have no permission to; ask its owner for it"
            ) from None
        except (av.FFmpegError, OSError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise UserError(
                f"{self.path} cannot be read as a recording ({reason}): is it complete, and a video?"
            ) from None
        return container

    def _probe(self) -> tuple[float, SourceInfo]:
        """The first frame's own time and the file's description, by decoding the first of each stream."""
        check_recording(self.path)
        with self._open_container() as container:
            video = _picture_stream(container, self.path)
            audio = container.streams.best("audio")
            first = next(iter(_decode_stream(container, video, Counter())), None)
            if not isinstance(first, Picture):
                raise UserError(
                    f"{self.path}: no picture in it can be decoded (codec {_codec_name(video)}); {_CONVERT}"
                )
            rgb = self._to_upright_rgb(first, VideoReformatter())
            rate = _average_rate(video)
            duration_s = container.duration / 1_000_000 if container.duration else None
            frames_hint = video.frames or None
            video_codec = _codec_name(video)
            zero_s = _timestamp_s(first) or 0.0
            audio_codec = _codec_name(audio) if isinstance(audio, AudioStream) else None
            audio_index = audio.index if isinstance(audio, AudioStream) else None
        if audio_index is not None:
            if self._has_sound(audio_index):
                self._audio_index = audio_index
            else:
                self._counters["audio_undecodable"] = 1
        return zero_s, SourceInfo(
            name=self.path.name,
            width=rgb.shape[1],
            height=rgb.shape[0],
            frame_rate=rate,
            duration_s=duration_s,
            video_codec=video_codec,
            audio_codec=audio_codec,
            has_audio=self._audio_index is not None,
            frames_hint=frames_hint,
        )

    def _has_sound(self, index: int) -> bool:
        with self._open_container() as container:
            audio = container.streams[index]
            if audio.codec_context is None:
                return False
            return next(iter(_decode_stream(container, audio, Counter(), PROBE_PACKETS)), None) is not None

    def _time_on_axis(self, frame: Picture | AudioFrame) -> float | None:
        stamp_s = _timestamp_s(frame)
        return None if stamp_s is None else stamp_s - self._zero_s

    def _latest_s(self) -> float | None:
        return None if self.info.duration_s is None else self.info.duration_s + DURATION_SLACK_S

    def _read_frames(self) -> Iterator[VideoFrame]:
        clock = FrameClock()
        step_s = 1 / self.info.frame_rate
        latest_s = self._latest_s()
        with self._open_container() as container:
            stream = _picture_stream(container, self.path)
            # Frame threads conceal damage differently from run to run; slices do not, and a replay must
            # repeat.
            stream.codec_context.thread_type = "SLICE"
            decode_small(stream, self._max_long_side)
            scaler = VideoReformatter()
            for index, picture in enumerate(_decode_stream(container, stream, self._counters)):
                assert isinstance(picture, Picture)
                clock, placed = step_frame_clock(clock, self._time_on_axis(picture), step_s, latest_s)
                if placed.mended:
                    self._counters[placed.mended] += 1
                if picture.is_corrupt:
                    self._counters["corrupt_frames"] += 1
                yield VideoFrame(index, placed.time_s, time.time(), self._to_upright_rgb(picture, scaler))

    def _to_upright_rgb(self, picture: Picture, scaler: VideoReformatter) -> NDArray[np.uint8]:
        """RGB, scaled where asked, turned by the display matrix that telephones write."""
        width, height = fitted(picture.width, picture.height, self._max_long_side)
        rgb = scaler.reformat(picture, width=width, height=height, format="rgb24").to_ndarray()
        turned = np.rot90(rgb, round(picture.rotation / 90) % 4)
        return np.ascontiguousarray(turned, dtype=np.uint8)

    def _read_sound(self) -> Iterator[AudioChunk]:
        """Sound as 16 kHz mono, each run of contiguous sound through its own resampler."""
        assert self._audio_index is not None
        clock = SoundClock()
        latest_s = self._latest_s()
        runs = SoundRuns()
        with self._open_container() as container:
            for frame in _decode_stream(container, container.streams[self._audio_index], self._counters):
                assert isinstance(frame, AudioFrame)
                rate = frame.sample_rate
                if frame.samples == 0 or not rate:
                    continue
                clock, placed = step_sound_clock(
                    clock, self._time_on_axis(frame), frame.samples, rate, latest_s
                )
                if placed.mended:
                    self._counters[placed.mended] += 1
                if placed.skip:
                    self._counters["audio_overlap_samples"] += round(placed.skip * SAMPLE_RATE / rate)
                yield from runs.step(frame, placed)
            yield from runs.finish()
        if runs.trimmed:
            self._counters["audio_before_video_samples"] += runs.trimmed


def check_recording(path: Path) -> None:
    """Raises UserError where there is no file at `path`; what is in it is not looked at."""
    if not path.exists():
        raise UserError(f"{path}: no such file; check its name and folder")
    if path.is_dir():
        raise UserError(f"{path} is a folder: name a recording in it")


def _timestamp_s(frame: Picture | AudioFrame) -> float | None:
    """The frame's timestamp in the container's own seconds, None where it has none."""
    if frame.pts is None or frame.time_base is None:
        return None
    return float(frame.pts * frame.time_base)


def _picture_stream(container: InputContainer, path: Path) -> VideoStream:
    """The first moving picture (a song's cover is none)."""
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            if stream.codec_context is None:
                raise UserError(f"{path}: its picture's codec is not known here; {_CONVERT}")
            return stream
    raise UserError(f"{path} has no picture: a video is needed, sound alone is not enough")


def _codec_name(stream: Any) -> str:
    return "unknown" if stream.codec_context is None else str(stream.codec_context.name)


def _average_rate(stream: VideoStream) -> float:
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate and 0 < rate <= SPEED_LIMIT:
            return float(rate)
    return FALLBACK_RATE


def _decode_stream(
    container: InputContainer, stream: Any, counters: Counter[str], packets: int | None = None
) -> Iterator[Picture | AudioFrame]:
    """Every frame of the stream that decodes; packets that do not are counted and passed over."""
    failures = taken = 0
    demuxed = container.demux(stream)
    while packets is None or taken < packets:
        try:
            packet = next(demuxed, None)
        except (av.FFmpegError, OSError):
            counters["read_errors"] += 1
            failures += 1
            if failures >= READ_ATTEMPTS:
                break
            demuxed = container.demux(stream)
            continue
        if packet is None:
            return
        failures = 0
        taken += 1
        yield from _decode_counted(packet.decode, counters)
    # Reading gave up, or the probe's packets are used: what the decoder still holds.
    yield from _decode_counted(lambda: stream.codec_context.decode(None), counters)


def _decode_counted(
    decode: Callable[[], Iterable[Any]], counters: Counter[str]
) -> Iterator[Picture | AudioFrame]:
    frames = decode_packet(decode)
    if frames is None:
        counters["decode_errors"] += 1
    yield from frames or ()
