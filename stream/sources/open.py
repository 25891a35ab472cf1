"""The source that a name means: a recording, a camera, a stream."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stream.sources.events import Source


def is_live(target: str) -> bool:
    """Whether a source's name means a live one: a camera, a URL or a filter graph, and not a file."""
    return target.startswith(("camera:", "lavfi:")) or "://" in target


def check_source(target: str) -> None:
    """Raises UserError where `target` is a file that is not there: as much as can be told without opening it."""
    if not is_live(target):
        from stream.sources.file import check_recording

        check_recording(Path(target))


def open_source(
    target: str,
    *,
    microphone: str | None = None,
    size: tuple[int, int] | None = None,
    frame_rate: float | None = None,
    tick_rate: float = 30.0,
) -> Source:
    """The source named by `target`: a file's path, or, live, `camera:0`, `camera:NAME`, a URL or
    `lavfi:GRAPH`.

    `microphone` (None: the default, or a stream's own; `none`; a number or a name), `size` and `frame_rate`
    (asked of the device) and `tick_rate` (frames per second given, the bundle's) concern live sources only.
    Blocks while devices open. Raises `UserError` where the source cannot be opened.
    """
    if is_live(target):
        from stream.sources.devices import RequestedFormat
        from stream.sources.live import open_live

        return open_live(
            target,
            microphone=microphone,
            requested=RequestedFormat(size, frame_rate),
            tick_rate=tick_rate,
        )
    from stream.sources.file import MediaFile

    return MediaFile(target)
