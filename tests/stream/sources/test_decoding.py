"""Packets that are damaged are told from those that hold nothing, and end nothing."""

from __future__ import annotations

from typing import Any

import av.error

from stream.sources.decoding import decode_packet
from stream.sources.live import LiveSource
from tests.stream.sources.live_inputs import Devices, damaged, frames_of, picture, watch


def raises(error: Exception) -> Any:
    def decode() -> Any:
        raise error

    return decode


def test_frames_nothing_and_damage_are_told_apart() -> None:
    assert decode_packet(lambda: iter("ab")) == ("a", "b")
    assert decode_packet(list) == ()
    assert decode_packet(raises(av.error.EOFError(-541478725, "End of file"))) == ()
    assert decode_packet(raises(av.error.InvalidDataError(-1094995529, "Invalid data"))) is None


def test_a_live_camera_goes_on_after_damaged_packets_and_counts_them() -> None:
    source = LiveSource(picture(), opener=Devices(camera=[damaged({3, 4})]))
    assert len(frames_of(watch(source, 15))) > 5
    assert source.counters["decode_errors"] == 2
    assert "camera_losses" not in source.counters
