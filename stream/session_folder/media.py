"""Picture and sound as the engine used them, in a Matroska file that a kill leaves playable.

The picture is H.264 (MPEG-4 where this build of FFmpeg has no encoder for it), a key frame a second; the sound 16
kHz mono PCM. Both lie on the media time axis of the estimates, in milliseconds. A kill costs at most the last two
seconds. A picture that a live source shows again is not written again.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from contextlib import suppress
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame as Picture

from stream.sources.events import SAMPLE_RATE, AudioChunk, SourceEvent, SourceInfo, VideoFrame
from stream.sources.scaling import MOST_LONG_SIDE, fitted

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MOST_WAITING_BYTES: Final = 96 * 2**20
"""Of pictures and sound that wait to be written: a second or more of a large live picture."""

CLOSING_S: Final = 20.0
"""How long what waits may take to be written at the end."""

_MILLISECONDS: Final = Fraction(1, 1000)
_CONTAINER: Final = {
    "flush_packets": "1",
    "cluster_time_limit": "1000",
    "max_interleave_delta": "1000000",
}
_ENCODERS: Final = (
    ("libx264", {"preset": "ultrafast", "tune": "zerolatency", "crf": "20"}),
    ("mpeg4", {"q": "3"}),
)


class MediaKeeper:
    """Writes a source's pictures and sound in a thread of its own; one of its threads offers them.

    A `live` source's are dropped and counted where the writer has no room; a recording waits. `hold` leaves out what
    is offered: while a live run is paused nothing of the person is kept. What goes wrong is in `failure`, and from
    then on everything is dropped and counted.
    """

    def __init__(self, path: Path, info: SourceInfo, *, live: bool) -> None:
        self._path = path
        self._info = info
        self._live = live
        self._changed = threading.Condition()
        self._waiting: deque[VideoFrame | AudioChunk] = deque()
        self._waiting_bytes = 0
        self._ending = self._held = False
        self._drops: Counter[str] = Counter()
        self._frames = self._samples = 0
        self.failure: str | None = None
        self._thread = threading.Thread(target=self._write_all, name="media", daemon=True)

    @property
    def drops(self) -> Mapping[str, int]:
        """`session_media_busy`: the machine was too slow to write it; `session_media_failed`: the disk failed."""
        with self._changed:
            return dict(self._drops)

    @property
    def frames(self) -> int:
        """Pictures written."""
        return self._frames

    @property
    def sound_s(self) -> float:
        """Seconds of sound written."""
        return self._samples / SAMPLE_RATE

    def start(self) -> None:
        """Starts the thread; the file is made at the first picture."""
        self._thread.start()

    def hold(self, held: bool) -> None:
        """Leaves out, or takes again, what a live source gives; a recording's pauses have nothing to leave out."""
        self._held = held and self._live

    def offer(self, event: SourceEvent) -> None:
        """Takes a picture or sound, from the source's thread."""
        if self._held or not isinstance(event, VideoFrame | AudioChunk):
            return
        if isinstance(event, VideoFrame) and event.repeated:
            return
        size = _size_bytes(event)
        with self._changed:
            if not self._live:
                self._changed.wait_for(lambda: self._waiting_bytes < MOST_WAITING_BYTES or self._ending)
            if self.failure is not None:
                self._drops["session_media_failed"] += 1
            elif self._ending or self._waiting_bytes + size > MOST_WAITING_BYTES + size * (not self._live):
                self._drops["session_media_busy"] += 1
            else:
                self._waiting.append(event)
                self._waiting_bytes += size
                self._changed.notify_all()

    def close(self) -> None:
        """Writes what waits, for at most `CLOSING_S`, and finishes the file. Blocks."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(CLOSING_S)

    def _write_all(self) -> None:
        try:
            container = av.open(str(self._path), "w", format="matroska", options=_CONTAINER)
        except (av.FFmpegError, OSError) as error:
            self._fail(error)
            return
        writer = _Writer(container, self._info)
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._waiting) or self._ending)
                if not self._waiting:
                    break
                event = self._waiting.popleft()
                self._waiting_bytes -= _size_bytes(event)
                self._changed.notify_all()
            try:
                writer.write(event)
            except (av.FFmpegError, OSError, ValueError) as error:
                self._fail(error)
                break
            if isinstance(event, VideoFrame):
                self._frames += 1
            else:
                self._samples += len(event.samples)
        try:
            writer.finish()
        except (av.FFmpegError, OSError, ValueError) as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        with self._changed:
            if self.failure is None:
                self.failure = getattr(error, "strerror", None) or str(error)
            self._drops["session_media_failed"] += len(self._waiting)
            self._waiting.clear()
            self._waiting_bytes = 0
            self._changed.notify_all()


class _Writer:
    """The container and its streams."""

    def __init__(self, container: Any, info: SourceInfo) -> None:
        self._container = container
        rate = Fraction(info.frame_rate).limit_denominator(1001)
        # The size that live pictures are scaled to, too; this encoding wants even ones.
        width, height = fitted(info.width, info.height, MOST_LONG_SIDE)
        self._video = _add_picture(container, rate, width - width % 2, height - height % 2)
        self._audio: Any = None
        if info.has_audio:
            self._audio = container.add_stream("pcm_s16le", rate=SAMPLE_RATE)
            self._audio.layout = "mono"
        self._last_ms = -1

    def write(self, event: VideoFrame | AudioChunk) -> None:
        if isinstance(event, AudioChunk):
            self._write_sound(event)
        else:
            self._write_picture(event)

    def _write_picture(self, frame: VideoFrame) -> None:
        picture = Picture.from_ndarray(frame.rgb, format="rgb24")
        picture = picture.reformat(self._video.width, self._video.height, "yuv420p")
        # Times of two frames may round to the same millisecond: each needs one of its own.
        self._last_ms = max(self._last_ms + 1, round(frame.time_s * 1000))
        picture.pts, picture.time_base = self._last_ms, _MILLISECONDS
        self._container.mux(self._video.encode(picture))

    def _write_sound(self, chunk: AudioChunk) -> None:
        if self._audio is None:
            return
        samples = (np.clip(chunk.samples, -1.0, 1.0) * 32767).round().astype(np.int16)
        sound = AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        sound.sample_rate = SAMPLE_RATE
        sound.pts, sound.time_base = chunk.start_sample, Fraction(1, SAMPLE_RATE)
        self._container.mux(self._audio.encode(sound))

    def finish(self) -> None:
        try:
            for stream in filter(None, (self._video, self._audio)):
                self._container.mux(stream.encode(None))
        finally:
            self._container.close()


def _add_picture(container: Any, rate: Fraction, width: int, height: int) -> Any:
    for name, options in _ENCODERS:
        with suppress(ValueError, av.FFmpegError):
            stream = container.add_stream(name, rate=rate, options=dict(options))
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            context = stream.codec_context
            context.time_base = _MILLISECONDS
            context.gop_size = max(1, round(rate))
            context.thread_count = 1
            return stream
    raise ValueError("this build of FFmpeg has no encoder for pictures")


def _size_bytes(event: VideoFrame | AudioChunk) -> int:
    return event.rgb.nbytes if isinstance(event, VideoFrame) else event.samples.nbytes
