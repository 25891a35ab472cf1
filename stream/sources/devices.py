"""Cameras, microphones and addresses: what exists on this machine, and how PyAV is asked for it.

Linux (v4l2, alsa), macOS (avfoundation) and Windows (dshow); any URL or lavfi graph beside them.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import av

from models.credentials import hide_credentials
from models.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from av.container import InputContainer

Kind = Literal["camera", "microphone", "stream"]

OPEN_TIMEOUT_S: Final = 8.0
READ_TIMEOUT_S: Final = 3.0

# How a network source is told not to collect what it could give at once, and RTSP not to lose packets.
NETWORK_OPTIONS: Final = {"fflags": "nobuffer", "rtsp_transport": "tcp"}

SOUND_SERVERS: Final = ("default", "pulse", "pipewire")
PLAYBACK_ONLY: Final = ("surround", "hdmi", "iec958", "dmix")


@dataclass(frozen=True)
class Device:
    """A camera or microphone that exists: what to give on the command line, and what people call it."""

    address: str
    name: str


@dataclass(frozen=True)
class DeviceList:
    """What this machine has, in the order in which numbers count."""

    cameras: tuple[Device, ...]
    microphones: tuple[Device, ...]

    def __str__(self) -> str:
        lines = []
        for title, devices in (("cameras", self.cameras), ("microphones", self.microphones)):
            lines.append(f"{title}:" if devices else f"{title}: none")
            lines += [f"  {i}  {d.address}  {d.name}".rstrip() for i, d in enumerate(devices)]
        return "\n".join(lines)


@dataclass(frozen=True)
class RequestedFormat:
    """The pictures that a source is asked for; None: whatever it gives."""

    size: tuple[int, int] | None = None
    frame_rate: float | None = None
    pixel_format: str | None = None


ANY_FORMAT: Final = RequestedFormat()


@dataclass(frozen=True)
class GivenFormat:
    """The pictures that it gives. `frame_rate` is what the device claims, None where it claims nothing."""

    size: tuple[int, int]
    frame_rate: float | None
    pixel_format: str

    def __str__(self) -> str:
        rate = "" if self.frame_rate is None else f" at {self.frame_rate:.4g}/s"
        return f"{self.size[0]}x{self.size[1]}{rate} ({self.pixel_format})"


def compare(requested: RequestedFormat, given: GivenFormat) -> str:
    """One line: what is given and, where it differs, what was asked for."""
    differences = []
    if requested.size is not None and requested.size != given.size:
        differences.append(f"{requested.size[0]}x{requested.size[1]}")
    if (
        requested.frame_rate is not None
        and given.frame_rate is not None
        and abs(requested.frame_rate - given.frame_rate) > 0.01 * requested.frame_rate
    ):
        differences.append(f"{requested.frame_rate:.4g}/s")
    if requested.pixel_format is not None and requested.pixel_format != given.pixel_format:
        differences.append(requested.pixel_format)
    return f"{given}, asked for {', '.join(differences)}" if differences else str(given)


@dataclass(frozen=True)
class Address:
    """How to open one live input.

    `url`, `format` and `options` as PyAV takes them; `wishes` are options to leave out where the device
    refuses them. `endless`: its end is a loss to come back from, not an end.
    """

    kind: Kind
    label: str
    url: str
    format: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    wishes: Mapping[str, str] = field(default_factory=dict)
    endless: bool = True


def list_devices(platform: str = sys.platform, root: Path = Path("/")) -> DeviceList:
    """Cameras and microphones of this machine; empty where the system tells of none. Never raises for
    absence.
    """
    if platform.startswith("linux"):
        return DeviceList(_linux_cameras(root), _linux_microphones())
    host = "avfoundation" if platform == "darwin" else "dshow"
    found = _list_system_devices(host)
    return DeviceList(
        tuple(Device(d.name, d.description) for d in found if "video" in d.media_types),
        tuple(Device(d.name, d.description) for d in found if "audio" in d.media_types),
    )


def camera_address(
    camera: str,
    requested: RequestedFormat = ANY_FORMAT,
    *,
    platform: str = sys.platform,
    root: Path = Path("/"),
) -> Address:
    """A camera by number (as listed), name, or path. Raises `UserError` where there is none of that name."""
    wishes = {}
    if requested.size is not None:
        wishes["video_size"] = f"{requested.size[0]}x{requested.size[1]}"
    if requested.frame_rate is not None:
        wishes["framerate"] = f"{requested.frame_rate:g}"
    label = f"camera {camera}"
    if platform.startswith("linux"):
        if requested.pixel_format is not None:
            wishes["input_format"] = requested.pixel_format
        if camera.isdecimal():
            path = f"/dev/video{int(camera)}"
        elif camera.startswith("/"):
            path = camera
        else:
            path = _address_by_name(camera, _linux_cameras(root), "camera")
        # Frames stamped by the wall clock whatever clock the driver keeps.
        return Address("camera", label, path, "v4l2", {"timestamps": "abs"}, wishes)
    if requested.pixel_format is not None:
        wishes["pixel_format"] = requested.pixel_format
    if platform == "darwin":
        # avfoundation refuses to open without a rate that the camera knows; 30 is what all of them know.
        return Address("camera", label, f"{camera}:none", "avfoundation", {"framerate": "30", **wishes})
    cameras = list_devices(platform, root).cameras
    name = _device_by_number(camera, cameras, "camera").address if camera.isdecimal() else camera
    return Address("camera", label, f"video={name}", "dshow", {"rtbufsize": "64M"}, wishes)


def microphone_address(microphone: str, *, platform: str = sys.platform, root: Path = Path("/")) -> Address:
    """A microphone by number (as listed), name, or `default`. Raises `UserError` where there is none of that
    name.
    """
    label = f"microphone {microphone}"
    if platform.startswith("linux"):
        name = microphone
        if microphone.isdecimal():
            name = _device_by_number(microphone, _linux_microphones(), "microphone").address
        return Address("microphone", label, name, "alsa")
    if platform == "darwin":
        return Address("microphone", label, f":{microphone}", "avfoundation")
    microphones = list_devices(platform, root).microphones
    if microphone == "default":
        microphone = "0"
    name = (
        _device_by_number(microphone, microphones, "microphone").address
        if microphone.isdecimal()
        else microphone
    )
    return Address("microphone", label, f"audio={name}", "dshow", {"audio_buffer_size": "20"})


def stream_address(url: str) -> Address:
    """A URL that PyAV opens, or `lavfi:GRAPH` (ends where the graph does)."""
    label = hide_credentials(url)
    if url.startswith("lavfi:"):
        return Address("stream", label, url.removeprefix("lavfi:"), "lavfi", endless=False)
    options = dict(NETWORK_OPTIONS) if url.startswith("rtsp") else {"fflags": "nobuffer"}
    return Address("stream", label, url, None, options)


def open_address(address: Address) -> InputContainer:
    """Opens it. Options that it refuses are left out (what it then gives is compared with what was asked
    for).

    Raises `UserError` naming the device, why, and what there is.
    """
    if address.format == "alsa":
        _use_system_alsa()
    tries = [{**address.options, **address.wishes}]
    if address.wishes:
        tries.append(dict(address.options))
    reason = ""
    for options in tries:
        try:
            return av.open(
                address.url,
                format=address.format,
                options=options,
                timeout=(OPEN_TIMEOUT_S, READ_TIMEOUT_S),
                metadata_errors="replace",
            )
        except (FileNotFoundError, PermissionError) as error:
            reason = error.strerror or str(error)
            break
        except (av.FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            if isinstance(error, av.error.ExitError):
                reason = f"nothing came within {OPEN_TIMEOUT_S:g} s"
    raise SetupError(f"{address.label} cannot be opened ({reason})", way_out=_way_out(address))


def _way_out(address: Address) -> str:
    if address.kind == "stream":
        return "is it running, and is the address right?"
    devices = list_devices()
    present = devices.cameras if address.kind == "camera" else devices.microphones
    names = ", ".join(d.address for d in present) or "none"
    other = "; --microphone none does without" if address.kind == "microphone" else ""
    return f"{address.kind}s on this machine: {names} (--list-devices){other}"


def _linux_cameras(root: Path) -> tuple[Device, ...]:
    """Capture nodes by sysfs: a camera's second node (index 1) carries metadata, not pictures."""
    found = []
    for node in (root / "sys/class/video4linux").glob("video*"):
        index, name = node / "index", node / "name"
        if index.is_file() and index.read_text().strip() != "0":
            continue
        title = name.read_text().strip() if name.is_file() else ""
        found.append((int(node.name.removeprefix("video")), Device(f"/dev/{node.name}", title)))
    return tuple(device for _, device in sorted(found, key=lambda pair: pair[0]))


def _linux_microphones() -> tuple[Device, ...]:
    """Cards and sound servers; ALSA also lists its converters and playback-only names, which hear nothing."""
    _use_system_alsa()
    return tuple(
        Device(d.name, d.description.replace("\n", ", "))
        for d in _list_system_devices("alsa")
        if d.name in SOUND_SERVERS or ("CARD=" in d.name and not d.name.startswith(PLAYBACK_ONLY))
    )


def _list_system_devices(host: str) -> list[av.DeviceInfo]:
    try:
        return av.enumerate_input_devices(host)
    except (av.FFmpegError, OSError, ValueError):
        return []


def _use_system_alsa() -> None:
    """PyAV's own ALSA looks for its configuration and plug-ins where it was built; this machine's are here."""
    configuration = Path("/usr/share/alsa/alsa.conf")
    if "ALSA_CONFIG_PATH" not in os.environ and configuration.is_file():
        os.environ["ALSA_CONFIG_PATH"] = str(configuration)
    if "ALSA_PLUGIN_DIR" not in os.environ:
        for folder in (*Path("/usr").glob("lib*/alsa-lib"), *Path("/usr").glob("lib/*/alsa-lib")):
            os.environ["ALSA_PLUGIN_DIR"] = str(folder)
            break


def _address_by_name(name: str, devices: tuple[Device, ...], kind: Kind) -> str:
    for device in devices:
        if name.casefold() in (device.name.casefold(), device.address.casefold()):
            return device.address
    return _refuse_unknown(name, devices, kind)


def _device_by_number(number: str, devices: tuple[Device, ...], kind: Kind) -> Device:
    if int(number) < len(devices):
        return devices[int(number)]
    return Device(_refuse_unknown(number, devices, kind), "")


def _refuse_unknown(name: str, devices: tuple[Device, ...], kind: Kind) -> str:
    present = ", ".join(f"{d.address} ({d.name})" if d.name else d.address for d in devices) or "none"
    raise SetupError(f"no {kind} {name!r}: {kind}s on this machine: {present} (--list-devices)")
