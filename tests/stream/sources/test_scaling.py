"""Pictures are taken no larger than faces need, and decoded no larger where the codec allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.sources.events import VideoFrame
from stream.sources.file import MediaFile
from stream.sources.scaling import fitted, halvings

if TYPE_CHECKING:
    from pathlib import Path

sides = st.integers(1, 8192)


@given(sides, sides, st.integers(1, 4096))
def test_a_picture_keeps_its_form_and_never_grows(width: int, height: int, most: int) -> None:
    taken = fitted(width, height, most)
    assert max(taken) == min(max(width, height), most)
    assert all(1 <= new <= old for new, old in zip(taken, (width, height), strict=True))
    assert abs(taken[0] * height - taken[1] * width) <= max(width, height)


@given(sides, sides, st.integers(1, 4096))
def test_a_decoder_never_gives_less_than_is_taken(width: int, height: int, most: int) -> None:
    times = halvings("mjpeg", width, height, most)
    assert times == 0 or max(width, height) >> times >= most
    assert halvings("h264", width, height, most) == 0


def write(path: Path, codec: str, pixel_format: str) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 1920, 1080, pixel_format
        across = np.broadcast_to(np.linspace(0, 255, 1920)[None, :, None], (1080, 1920, 3))
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(across.astype(np.uint8), format="rgb24")))
        container.mux(stream.encode())


@pytest.mark.parametrize(("codec", "pixel_format"), [("mjpeg", "yuvj420p"), ("libx264", "yuv420p")])
def test_a_large_recording_gives_the_same_small_picture_whatever_its_codec(
    tmp_path: Path, codec: str, pixel_format: str
) -> None:
    path = tmp_path / "large.mkv"
    write(path, codec, pixel_format)
    source = MediaFile(path)
    frames = [event for event in source.events() if isinstance(event, VideoFrame)]
    assert (source.info.width, source.info.height) == (960, 540)
    assert [frame.rgb.shape for frame in frames] == [(540, 960, 3)] * 3
    middle = frames[0].rgb[270].mean(axis=1)
    assert np.allclose(middle[20:-20], np.linspace(0, 255, 960)[20:-20], atol=6)
