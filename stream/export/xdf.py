"""XDF, the file of Lab Streaming Layer: estimates, settled estimates and markers as streams, timed at capture.

Times are this machine's monotonic clock in seconds, which on Linux is the clock that Lab Streaming Layer stamps with:
what was recorded beside the session on the same machine lines up. Format: github.com/sccn/xdf/wiki/Specifications.
"""

from __future__ import annotations

import struct
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import BinaryIO

    from numpy.typing import NDArray

    from stream.session_folder.read import SessionFolder

_HEADER, _STREAM, _SAMPLES, _CLOCK, _FOOTER = 1, 2, 3, 4, 6
SAMPLES_A_CHUNK: Final = 1024
PRESENCES: Final = ("face", "voice", "words")


@dataclass(frozen=True)
class XdfStream:
    """A stream: `times` (N,) in seconds, `samples` (N, channels) or texts."""

    name: str
    kind: str
    channels: tuple[str, ...]
    times: NDArray[np.float64]
    samples: NDArray[np.float32] | Sequence[str]

    @property
    def holds_texts(self) -> bool:
        """Whether its samples are texts, one a sample."""
        return not isinstance(self.samples, np.ndarray)


def write_xdf(session: SessionFolder, folder: Path, name: str) -> list[Path]:
    """Writes `NAME.xdf` and says so. Raises OSError."""
    path = folder / f"{name}.xdf"
    with path.open("wb") as file:
        file.write(b"XDF:")
        _write_chunk(file, _HEADER, b'<?xml version="1.0"?><info><version>1.0</version></info>')
        for number, stream in enumerate(streams_of(session), 1):
            _write_stream(file, number, stream, session.path.name)
    return [path]


def streams_of(session: SessionFolder) -> list[XdfStream]:
    """Provisional estimates at the frame rate, settled ones, words, and markers."""
    estimates = session.estimates
    times = capture_times(session)
    found = []
    # Named, and with channels, as the outlets of Lab Streaming Layer are.
    for track, name in (("provisional", "affectstream"), ("settled", "affectstream settled")):
        names = [f"{track}_{what}" for what in ("valence", "arousal", "valence_spread", "arousal_spread")]
        here = ~np.isnan(estimates[names[0]].astype(np.float64))
        columns = [estimates[each][here].astype(np.float32) for each in (*names, *PRESENCES)]
        found.append(
            XdfStream(
                name,
                "Affect",
                ("valence", "arousal", "valence_spread", "arousal_spread", *PRESENCES),
                times[here],
                np.column_stack(columns),
            )
        )
    starts = np.array([word.start_s for word in session.words], np.float64)
    spoken = _at(starts, estimates["time_s"], times)
    words = [(float(at_s), word.text) for at_s, word in zip(spoken, session.words, strict=True)]
    markers = sorted((event.monotonic_s, event.value) for event in session.markers)
    for label, kind, rows in (("words", "Words", words), ("markers", "Markers", markers)):
        found.append(
            XdfStream(
                f"affectstream {label}",
                kind,
                (label,),
                np.array([at_s for at_s, _ in rows], np.float64),
                [text for _, text in rows],
            )
        )
    return found


def capture_times(session: SessionFolder) -> NDArray[np.float64]:
    """When each frame was captured, on the monotonic clock.

    A recording that was replayed as fast as possible was not captured at any time: its frames lie as far apart as
    they play, from the moment when the session began.
    """
    facts, estimates = session.facts, session.estimates
    if facts["source"]["live"] or facts["options"]["input"]["pace"] == "live":
        return estimates["captured_monotonic_s"].astype(np.float64)
    return float(facts["began"]["monotonic_s"]) + estimates["time_s"].astype(np.float64)


def _at(
    media_s: NDArray[np.float64], frames_s: NDArray[np.float64], times: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Media times on the clock of `times`, by the frames around them; sound may go on after the last frame."""
    if not len(times):
        return media_s
    beyond_s = np.maximum(media_s - frames_s[-1], 0.0)
    return np.asarray(np.interp(media_s, frames_s, times) + beyond_s, np.float64)


def _write_stream(file: BinaryIO, number: int, stream: XdfStream, source: str) -> None:
    identity = struct.pack("<I", number)
    _write_chunk(file, _STREAM, identity + _stream_header(stream, source))
    for at_s in (stream.times[0], stream.times[-1]) if len(stream.times) else ():
        # One machine's clock throughout: nothing to correct.
        _write_chunk(file, _CLOCK, identity + struct.pack("<dd", at_s, 0.0))
    for start in range(0, len(stream.times), SAMPLES_A_CHUNK):
        _write_chunk(file, _SAMPLES, identity + _samples(stream, start, start + SAMPLES_A_CHUNK))
    footer = ET.Element("info")
    if len(stream.times):
        ET.SubElement(footer, "first_timestamp").text = repr(float(stream.times[0]))
        ET.SubElement(footer, "last_timestamp").text = repr(float(stream.times[-1]))
    ET.SubElement(footer, "sample_count").text = str(len(stream.times))
    _write_chunk(file, _FOOTER, identity + ET.tostring(footer, encoding="utf-8", xml_declaration=True))


def _stream_header(stream: XdfStream, source: str) -> bytes:
    info = ET.Element("info")
    for tag, text in (
        ("name", stream.name),
        ("type", stream.kind),
        ("channel_count", str(len(stream.channels))),
        # Times are those of capture: a reader that takes them for regular would move them.
        ("nominal_srate", "0"),
        ("channel_format", "string" if stream.holds_texts else "float32"),
        ("source_id", f"affectstream-{source}"),
        ("version", "1.1"),
    ):
        ET.SubElement(info, tag).text = text
    channels = ET.SubElement(ET.SubElement(info, "desc"), "channels")
    for label in stream.channels:
        channel = ET.SubElement(channels, "channel")
        ET.SubElement(channel, "label").text = label
        ET.SubElement(channel, "type").text = stream.kind
    header: bytes = ET.tostring(info, encoding="utf-8", xml_declaration=True)
    return header


def _samples(stream: XdfStream, start: int, end: int) -> bytes:
    """Every sample with its own time."""
    times = stream.times[start:end]
    parts = [_length(len(times))]
    for at_s, sample in zip(times, stream.samples[start:end], strict=True):
        parts.append(struct.pack("<Bd", 8, at_s))
        if isinstance(sample, str):
            text = sample.encode()
            parts.append(_length(len(text)) + text)
        else:
            parts.append(np.asarray(sample, "<f4").tobytes())
    return b"".join(parts)


def _write_chunk(file: BinaryIO, tag: int, content: bytes) -> None:
    file.write(_length(len(content) + 2) + struct.pack("<H", tag) + content)


def _length(number: int) -> bytes:
    """A variable-length integer: its size in bytes, then itself."""
    if number < 2**8:
        return struct.pack("<BB", 1, number)
    return struct.pack("<BI", 4, number) if number < 2**32 else struct.pack("<BQ", 8, number)
