"""The size of pictures: no larger than faces need, and where the codec allows, decoded no larger either."""

from __future__ import annotations

from typing import Any, Final

MOST_LONG_SIDE: Final = 960
"""Pixels. A face that fills an eighth of such a picture's width still has the 112 that alignment wants."""

HALVING_CODECS: Final = frozenset({"mjpeg", "mpeg1video", "mpeg2video"})
"""Decoders that can give a half, a quarter or an eighth of the size for less work; most cameras speak the first."""

_MOST_HALVINGS: Final = 3


def fitted(width: int, height: int, most_long_side: int) -> tuple[int, int]:
    """The size to scale a picture to: its own, or scaled down so that its longer side has `most_long_side`."""
    if max(width, height) <= most_long_side:
        return width, height
    scale = most_long_side / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def halvings(codec: str, width: int, height: int, most_long_side: int) -> int:
    """How often a decoder may halve a picture on its way without making it smaller than needed."""
    if codec not in HALVING_CODECS:
        return 0
    times = 0
    while times < _MOST_HALVINGS and max(width, height) >= most_long_side << (times + 1):
        times += 1
    return times


def decode_small(stream: Any, most_long_side: int) -> None:
    """Have a video stream of PyAV, not yet decoded from, give pictures no larger than need be."""
    context = stream.codec_context
    times = halvings(str(context.name), context.width, context.height, most_long_side)
    if times:
        context.options = {**context.options, "lowres": str(times)}
