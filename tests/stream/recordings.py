"""Small recordings made on the spot, with timestamps of the test's choosing."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

MILLISECONDS = 1000

# Every clip of the fixtures.
CLIPS = [
    "1001_DFA_ANG_XX.flv",
    "1001_DFA_HAP_XX.flv",
    "1001_DFA_NEU_XX.flv",
    "bbaf2n.mpg",
    "face_noface.mov",
    "lbax4n.mpg",
    "lrwp9a.mpg",
    "no_face.mp4",
    "pwij3p.mpg",
    "sbia1a.mpg",
    "single_face.mp4",
    "swiz3n.mpg",
    "weekly_address_5s.mp4",
]


def steady(frames: int, rate: float = 25.0, start_s: float = 0.0) -> list[float]:
    """Frame times at a steady rate."""
    return [start_s + i / rate for i in range(frames)]


def tone(seconds: float, rate: int = 16_000, level: float = 0.5, hertz: float = 440.0) -> NDArray[np.int16]:
    """A sine, 16-bit."""
    t = np.arange(round(seconds * rate)) / rate
    return np.round(np.sin(2 * np.pi * hertz * t) * level * 32767).astype(np.int16)


def picture(index: int, width: int, height: int) -> NDArray[np.uint8]:
    """A picture that says which it is: its level of grey grows by 2 a frame, its top left corner is white."""
    rgb = np.full((height, width, 3), (index * 2) % 200, np.uint8)
    rgb[: height // 4, : width // 4] = 255
    return rgb


def write_recording(
    path: Path,
    frame_times: Sequence[float],
    sound: Sequence[tuple[float, NDArray[np.int16]]] | None = None,
    *,
    size: tuple[int, int] = (64, 48),
    rate: int = 16_000,
    video_codec: str = "ffv1",
    audio_codec: str = "pcm_s16le",
    piece: int = 320,
    stamp_packets: bool = False,
) -> Path:
    """Writes frames at `frame_times` and sound at the given starts (seconds, samples at `rate`, one or two
    channels as (n,) or (n, 2)), in pieces of `piece` samples. `sound=None`: no audio stream; `[]`: an
    empty one.
    """
    base = Fraction(1, MILLISECONDS)
    with av.open(str(path), "w") as container:
        video = container.add_stream(video_codec, rate=25)
        assert isinstance(video, av.VideoStream)
        video.width, video.height = size
        video.pix_fmt = "yuv420p"
        video.codec_context.time_base = base
        audio: av.AudioStream | None = None
        if sound is not None:
            channels = 2 if any(s.ndim == 2 for _, s in sound) else 1
            layout = "stereo" if channels == 2 else "mono"
            added = container.add_stream(audio_codec, rate=rate, layout=layout)
            assert isinstance(added, av.AudioStream)
            audio = added
        packets: list[Any] = []
        for index, time_s in enumerate(frame_times):
            frame = av.VideoFrame.from_ndarray(picture(index, *size), format="rgb24")
            frame.pts, frame.time_base = index if stamp_packets else round(time_s * MILLISECONDS), base
            packets += video.encode(frame)
        packets += video.encode(None)
        if stamp_packets:
            for packet, time_s in zip((p for p in packets if p.size), frame_times, strict=True):
                packet.pts = round(time_s * MILLISECONDS)
        if audio is not None:
            for start_s, samples in sound or ():
                flat = samples.reshape(len(samples), -1)
                for at in range(0, len(flat), piece):
                    cut = np.ascontiguousarray(flat[at : at + piece]).reshape(1, -1)
                    sounded = av.AudioFrame.from_ndarray(cut, format="s16", layout=layout)
                    sounded.sample_rate = rate
                    sounded.pts, sounded.time_base = round(start_s * rate) + at, Fraction(1, rate)
                    packets += audio.encode(sounded)
            packets += audio.encode(None)
        packets.sort(key=lambda packet: float((packet.dts or 0) * packet.time_base))
        for packet in packets:
            if packet.size:
                container.mux(packet)
    return path
