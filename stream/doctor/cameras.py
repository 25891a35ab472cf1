"""Cameras: opened, pictures seen, a face found in them, enough light."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import av
import numpy as np

from models.errors import UserError
from stream.doctor.findings import Finding, failure
from stream.doctor.permissions import System, how_to_allow, how_to_bring, may_open
from stream.sources.decoding import decode_packet
from stream.sources.devices import Address, open_address
from stream.sources.scaling import MOST_LONG_SIDE, decode_small, fitted

if TYPE_CHECKING:
    from models.visual.detectors import Face, FaceDetector, Image
    from stream.sources.reader import Opener

LOOK_S: Final = 2.0
"""Long enough for a camera to find its exposure."""

FIRST_PICTURE_S: Final = 10.0
"""How long the first picture may take, once it is open: a stream's packets mean nothing until a whole one comes."""

WHOLE_RATE: Final = 0.8
"""Of the bundle's frame rate: a camera that gives fewer pictures is said to be slow."""

DARK: Final = 50.0
BRIGHT: Final = 215.0
"""Mean luma, of 255, of a face (of the picture, where there is none) beyond which faces are hard to read."""

BLACK: Final = 8.0
"""Mean luma of a picture through a closed shutter."""


@dataclass(frozen=True, eq=False)
class Sight:
    """What a camera gave: `pictures` in `seconds` since the first one, which came after `first_s`, and the last of
    them, uint8 (height, width, 3) RGB; the `size` is the camera's own. `decode_errors` packets were damaged.
    """

    size: tuple[int, int]
    pictures: int
    seconds: float
    first_s: float
    last: Image | None
    decode_errors: int = 0

    @property
    def rate(self) -> float:
        """Pictures a second."""
        return (self.pictures - 1) / self.seconds if self.pictures > 1 and self.seconds > 0 else 0.0


def look(address: Address, *, opener: Opener = open_address, seconds: float = LOOK_S) -> Sight:
    """Opens a camera and looks through it for so long, from its first picture; closed behind it. Blocks.

    Raises UserError where it cannot be opened, or fails before its first picture.
    """
    began_s = time.monotonic()
    container = opener(address)
    try:
        if not container.streams.video:
            raise UserError(f"{address.label} has no picture", way_out="give another one with --camera")
        stream = container.streams.video[0]
        size = (stream.codec_context.width, stream.codec_context.height)
        decode_small(stream, MOST_LONG_SIDE)
        first_s = last_s = time.monotonic()
        picture, pictures, decode_errors = None, 0, 0
        try:
            for packet in container.demux([stream]):
                frames = decode_packet(packet.decode)
                decode_errors += frames is None
                for frame in frames or ():
                    picture, last_s = frame, time.monotonic()
                    first_s = first_s if pictures else last_s
                    pictures += 1
                if time.monotonic() - first_s >= (seconds if pictures else FIRST_PICTURE_S):
                    break
        except (av.FFmpegError, OSError) as error:
            if not pictures:
                reason = getattr(error, "strerror", None) or str(error)
                raise UserError(f"{address.label} was opened, but no picture came ({reason})") from error
    finally:
        container.close()
    last = None
    if picture is not None:
        width, height = fitted(picture.width, picture.height, MOST_LONG_SIDE)
        last = picture.reformat(width=width, height=height, format="rgb24").to_ndarray()
    return Sight(size, pictures, last_s - first_s, first_s - began_s, last, decode_errors)


def luma(picture: Image, face: Face | None = None) -> float:
    """The mean brightness in [0, 255] (ITU-R BT.601) of a picture (H, W, 3), or of the face in it."""
    if face is not None:
        x, y, width, height = (max(0, round(v)) for v in face.box)
        inside = picture[y : y + height, x : x + width]
        picture = inside if inside.size else picture
    return float((picture.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)).mean())


def judge_sight(label: str, sight: Sight, faces: list[Face], *, frame_rate: float) -> Finding:
    """What was seen, as a finding; `frame_rate` is the bundle's, in frames a second."""
    damaged = f"; {sight.decode_errors} packets could not be decoded" if sight.decode_errors else ""
    if sight.last is None:
        mend = "close what else uses it, or give another one with --camera"
        return Finding(label, "failed", f"opened, but no picture came{damaged}", mend)
    face = max(faces, key=lambda found: found.area, default=None)
    light = luma(sight.last, face)
    measures = {
        "pictures_per_s": sight.rate,
        "first_picture_s": sight.first_s,
        "faces": float(len(faces)),
        "luma": light,
        "decode_errors": float(sight.decode_errors),
    }
    seen = f"{sight.size[0]}x{sight.size[1]}, {sight.rate:.0f} pictures a second{damaged}"
    if light < BLACK:
        return Finding(label, "warning", f"{seen}, all black", "open the camera's shutter", measures)
    troubles: list[tuple[str, str]] = []
    if face is None:
        troubles.append(("no face", "sit in front of it, facing it"))
    if not DARK <= light <= BRIGHT:
        word, way_out = (
            ("dark", "put a lamp in front of you") if light < DARK else ("bright", "dim the light")
        )
        troubles.append((f"too {word} (luma {light:.0f} of 255)", way_out))
    if sight.pictures > 1 and sight.rate < WHOLE_RATE * frame_rate:
        slow = f"{frame_rate:g} are wanted"
        troubles.append((slow, f"ask it for smaller pictures: --size 640x480 --fps {frame_rate:g}"))
    found = "" if face is None else f"; a face {face.box[2] / sight.last.shape[1]:.0%} of the width"
    light_text = "" if not DARK <= light <= BRIGHT else f", light enough (luma {light:.0f} of 255)"
    says = "; ".join([seen + found + light_text, *(what for what, _ in troubles)])
    mend = "; ".join(way_out for _, way_out in troubles)
    return Finding(label, "warning" if troubles else "ok", says, mend, measures)


def examine_camera(
    address: Address,
    detector: FaceDetector,
    *,
    frame_rate: float,
    system: System,
    opener: Opener = open_address,
    seconds: float = LOOK_S,
) -> Finding:
    """One camera or stream: opened, looked through, closed. Blocks; never raises for what a user can mend."""
    label = address.label
    if address.kind == "camera" and system.linux and not may_open(Path(address.url)):
        says = f"{address.url} is there, but this user may not open it"
        return Finding(label, "failed", says, how_to_allow("camera", system))
    try:
        sight = look(address, opener=opener, seconds=seconds)
    except UserError as error:
        mend = "" if system.linux or address.kind != "camera" else how_to_allow("camera", system)
        found = failure(label, error, mend=mend)
        absent = address.kind == "camera" and system.linux and not Path(address.url).exists()
        return Finding(label, "failed", found.says, how_to_bring("camera", system)) if absent else found
    faces = [] if sight.last is None else detector.detect(sight.last)
    return judge_sight(label, sight, faces, frame_rate=frame_rate)


def no_camera(system: System) -> Finding:
    """The finding on a machine that shows no camera."""
    mend = f"{how_to_bring('camera', system)}; without one: stream-run talk.mp4, or a stream's URL"
    return Finding("camera", "failed", "this system shows none", mend)
