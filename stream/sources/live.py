"""Cameras, microphones and streams, live: opened, described, and read side by side onto steady ticks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from models.errors import SetupError
from stream.flow.backoff import Backoff
from stream.messages import InputStatus
from stream.sources.captures import LiveCaptures
from stream.sources.devices import (
    ANY_FORMAT,
    Address,
    GivenFormat,
    RequestedFormat,
    camera_address,
    compare,
    microphone_address,
    open_address,
    stream_address,
)
from stream.sources.events import SourceInfo
from stream.sources.reader import Opener, Reader
from stream.sources.ticking import TickingSource

if TYPE_CHECKING:
    from stream.sources.events import InputName

FIRST_PICTURE_S: Final = 15.0
"""How long an open input may take to give its first picture."""

INPUT_BACKOFF: Final = Backoff(first_s=0.5, most_s=15.0)
"""The waits between attempts to open an input that was lost."""


class LiveSource(TickingSource):
    """A camera or stream, and a microphone or the stream's own sound, on one axis that ticks at `tick_rate`.

    Opening raises `UserError` where an input cannot be opened; later losses are `InputChange`s.
    """

    def __init__(
        self,
        camera: Address,
        microphone: Address | None = None,
        *,
        own_sound: bool = False,
        requested: RequestedFormat = ANY_FORMAT,
        tick_rate: float = 30.0,
        opener: Opener = open_address,
        backoff: Backoff = INPUT_BACKOFF,
        first_picture_s: float = FIRST_PICTURE_S,
    ) -> None:
        if not tick_rate > 0:
            raise ValueError(f"tick_rate must be above 0, not {tick_rate}")
        captures = LiveCaptures()
        container = opener(camera)
        try:
            info, detail, inputs = _describe(camera, container, microphone, own_sound, requested, tick_rate)
            readers = [Reader(camera, container, opener, captures, inputs, detail, backoff)]
            if microphone is not None:
                inputs = (*inputs, "microphone")
                readers.append(
                    Reader(
                        microphone,
                        opener(microphone),
                        opener,
                        captures,
                        ("microphone",),
                        microphone.label,
                        backoff,
                    )
                )
        except BaseException:
            container.close()
            raise
        names: tuple[InputName, ...] = ("camera", "microphone")
        for name in names:
            captures.set_status(name, InputStatus("waiting" if name in inputs else "off"))
        super().__init__(info, captures, readers, first_picture_s=first_picture_s)


def _describe(
    camera: Address,
    container: Any,
    microphone: Address | None,
    own_sound: bool,
    requested: RequestedFormat,
    tick_rate: float,
) -> tuple[SourceInfo, str, tuple[InputName, ...]]:
    """What the source is, what its picture gives beside what was requested, and the inputs in the container."""
    if not container.streams.video:
        raise SetupError(f"{camera.label} has no picture", way_out="give a camera or a stream that has one")
    video = container.streams.video[0]
    context = video.codec_context
    rate = float(video.average_rate) if video.average_rate else None
    given = GivenFormat((context.width, context.height), rate, str(context.pix_fmt))
    own = own_sound and microphone is None and bool(container.streams.audio)
    audio_codec = container.streams.audio[0].codec_context.name if own else None
    info = SourceInfo(
        name=camera.label,
        width=context.width,
        height=context.height,
        frame_rate=tick_rate,
        duration_s=None,
        video_codec=str(context.name),
        audio_codec=audio_codec if microphone is None else "pcm",
        has_audio=own or microphone is not None,
        frames_hint=None,
    )
    return (
        info,
        f"{camera.label}: {compare(requested, given)}",
        ("camera", "microphone") if own else ("camera",),
    )


def open_live(
    target: str,
    *,
    microphone: str | None = None,
    requested: RequestedFormat = ANY_FORMAT,
    tick_rate: float = 30.0,
) -> LiveSource:
    """A live source: `camera:0`, `camera:NAME`, a URL, or `lavfi:GRAPH`.

    `microphone` None: the default one beside a camera, a stream's own sound; `none`: no sound; else a number
    or name. Raises `UserError` where an input cannot be opened.
    """
    is_camera = target.startswith("camera:")
    picture = (
        camera_address(target.removeprefix("camera:"), requested) if is_camera else stream_address(target)
    )
    if microphone is None and is_camera:
        microphone = "default"
    heard = None if microphone in (None, "none") else microphone_address(str(microphone))
    return LiveSource(
        picture,
        heard,
        own_sound=microphone is None,
        requested=requested,
        tick_rate=tick_rate,
    )
