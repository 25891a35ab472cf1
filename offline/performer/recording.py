"""Writes a performance to a video file with sound."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Final, Literal

import av
import numpy as np

from models.errors import UserError
from offline.files import reason, replacing_path
from offline.performer.face import FacePainter
from offline.performer.voice import SAMPLE_RATE, Samples

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from offline.performer.canvas import Picture
    from offline.performer.performance import Performance

# x264's lookahead does not give the same answer twice (seen with its AVX-512 routines): do without all that asks it.
_REPEATABLE: Final = "bframes=0:scenecut=0:weightp=0:mbtree=0:rc-lookahead=0:sync-lookahead=0"
_VIDEO_CODECS: Final[tuple[Literal["libx264"], Literal["mpeg4"]]] = ("libx264", "mpeg4")


def draw_performance(performance: Performance, size: tuple[int, int]) -> Iterator[Picture]:
    """The performance's pictures (height, width, 3) RGB, one for each label."""
    painter = FacePainter(performance.person, size)
    return (painter.draw(pose) for pose in performance.poses)


def write_recording(
    path: Path,
    performance: Performance,
    size: tuple[int, int],
    *,
    quality: int = 22,
    preset: str = "veryfast",
) -> None:
    """Write an MP4: H.264 at the performance's frame rate, AAC mono at 44.1 kHz, both from time 0.

    `quality` is x264's constant quantiser (lower: better), `preset` its speed. The file appears whole or not
    at all. One build of the encoders gives the same bytes for the same performance; another build may not, though
    pictures and sound that go in are the same. Raises UserError where the file cannot be written.
    """
    try:
        with replacing_path(path) as unfinished:
            _encode(unfinished, performance, size, quality, preset)
    except av.error.FFmpegError as error:
        raise UserError(
            f"{path} cannot be written ({reason(error)})",
            way_out="see that FFmpeg can encode H.264 or MPEG-4 here, or give another place",
        ) from error


def _encode(path: Path, performance: Performance, size: tuple[int, int], quality: int, preset: str) -> None:
    rate = Fraction(performance.frame_rate).limit_denominator(1001)
    codec: Literal["libx264", "mpeg4"] = next(name for name in _VIDEO_CODECS if name in av.codecs_available)
    options = {"qscale": "4"}
    if codec == "libx264":
        options = {"qp": str(quality), "preset": preset, "g": "90", "x264-params": _REPEATABLE}
    with av.open(
        str(path), "w", format="mp4", options={"movflags": "+faststart", "fflags": "+bitexact"}
    ) as container:
        video = container.add_stream(codec, rate=rate, options={**options, "flags": "+bitexact"})
        video.width, video.height = size
        video.pix_fmt = "yuv420p"
        video.codec_context.thread_count = 1
        audio = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono", options={"flags": "+bitexact"})
        audio.bit_rate = 80_000
        sounds = _sound_frames(performance.samples)
        heard = 0
        for index, picture in enumerate(draw_performance(performance, size)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, 1 / rate
            container.mux(video.encode(frame))
            while heard * rate < (index + 1) * SAMPLE_RATE and (sound := next(sounds, None)) is not None:
                container.mux(audio.encode(sound))
                heard += sound.samples
        for sound in sounds:
            container.mux(audio.encode(sound))
        container.mux(video.encode())
        container.mux(audio.encode())


def _sound_frames(samples: Samples) -> Iterator[av.AudioFrame]:
    """The sound in AAC's frames of 1024 samples."""
    clipped = np.clip(samples, -1, 1)
    for start in range(0, len(clipped), 1024):
        block = np.ascontiguousarray(clipped[None, start : start + 1024])
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        frame.pts, frame.time_base = start, Fraction(1, SAMPLE_RATE)
        yield frame
