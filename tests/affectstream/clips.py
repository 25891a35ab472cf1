"""The beginning of the demo recording, as a file of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import av

from stream.options import DEMO_RECORDING

if TYPE_CHECKING:
    from pathlib import Path


def cut_demo(path: Path, seconds: float) -> Path:
    """Writes the demo's first seconds, packet by packet as they are."""
    with av.open(str(DEMO_RECORDING)) as whole, av.open(str(path), "w") as part:
        streams = {s.index: part.add_stream_from_template(s) for s in whole.streams}
        for packet in whole.demux():
            if packet.dts is not None and packet.dts * packet.time_base < seconds:
                packet.stream = streams[packet.stream.index]
                part.mux(packet)
    return path
