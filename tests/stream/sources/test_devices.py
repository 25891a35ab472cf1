"""Devices: what exists is listed, what is asked for is put as each system wants it, refusals name the way
out.
"""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from models.errors import UserError
from stream.sources.devices import (
    Address,
    Device,
    DeviceList,
    GivenFormat,
    RequestedFormat,
    camera_address,
    compare,
    list_devices,
    microphone_address,
    open_address,
    stream_address,
)
from stream.sources.open import open_source


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A Linux machine's /sys with two cameras, each with a second node for metadata."""
    for number, index, name in ((0, 0, "Front"), (1, 1, "Front"), (2, 0, "USB Cam"), (10, 0, "Grabber")):
        node = tmp_path / "sys/class/video4linux" / f"video{number}"
        node.mkdir(parents=True)
        (node / "index").write_text(f"{index}\n")
        (node / "name").write_text(f"{name}\n")
    return tmp_path


def test_cameras_of_linux_in_order_without_metadata_nodes(machine: Path) -> None:
    assert list_devices("linux", machine).cameras == (
        Device("/dev/video0", "Front"),
        Device("/dev/video2", "USB Cam"),
        Device("/dev/video10", "Grabber"),
    )


def test_a_machine_without_cameras(tmp_path: Path) -> None:
    assert list_devices("linux", tmp_path).cameras == ()


def test_a_list_reads_as_text() -> None:
    text = str(DeviceList((Device("/dev/video0", "Front"),), ()))
    assert text == "cameras:\n  0  /dev/video0  Front\nmicrophones: none"


@pytest.mark.parametrize(
    ("camera", "path"),
    [("0", "/dev/video0"), ("2", "/dev/video2"), ("/dev/video2", "/dev/video2"), ("usb cam", "/dev/video2")],
)
def test_cameras_by_number_path_and_name(machine: Path, camera: str, path: str) -> None:
    address = camera_address(
        camera, RequestedFormat((1280, 720), 30.0, "mjpeg"), platform="linux", root=machine
    )
    assert (address.url, address.format) == (path, "v4l2")
    assert address.wishes == {"video_size": "1280x720", "framerate": "30", "input_format": "mjpeg"}


def test_a_name_that_no_camera_has(machine: Path) -> None:
    with pytest.raises(UserError, match=r"no camera 'Rear': cameras on this machine: /dev/video0 \(Front\)"):
        camera_address("Rear", platform="linux", root=machine)


def found(monkeypatch: pytest.MonkeyPatch, *devices: tuple[str, str, str]) -> None:
    infos = [av.DeviceInfo(name, text, False, [kind]) for name, text, kind in devices]
    monkeypatch.setattr("stream.sources.devices._list_system_devices", lambda host: infos)


def test_microphones_of_linux_are_cards_and_servers_not_converters(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    names = ("null", "default", "speex", "pulse", "hw:CARD=USB,DEV=0", "surround51:CARD=USB,DEV=0")
    found(monkeypatch, *[(name, f"{name}\nlong", "audio") for name in names])
    microphones = list_devices("linux", tmp_path).microphones
    assert [m.address for m in microphones] == ["default", "pulse", "hw:CARD=USB,DEV=0"]
    assert microphones[0].name == "default, long"
    assert microphone_address("2", platform="linux").url == "hw:CARD=USB,DEV=0"
    with pytest.raises(UserError, match="no microphone '3'"):
        microphone_address("3", platform="linux")


def test_macos(monkeypatch: pytest.MonkeyPatch) -> None:
    found(monkeypatch, ("0", "FaceTime HD", "video"), ("0", "MacBook Microphone", "audio"))
    assert list_devices("darwin") == DeviceList(
        (Device("0", "FaceTime HD"),), (Device("0", "MacBook Microphone"),)
    )
    camera = camera_address("FaceTime HD", RequestedFormat((640, 480)), platform="darwin")
    assert (camera.url, camera.format) == ("FaceTime HD:none", "avfoundation")
    assert camera.options["framerate"] == "30"
    assert microphone_address("default", platform="darwin").url == ":default"


def test_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    found(monkeypatch, ("Integrated Camera", "", "video"), ("Microphone (Realtek)", "", "audio"))
    assert camera_address("0", platform="win32").url == "video=Integrated Camera"
    assert microphone_address("default", platform="win32").url == "audio=Microphone (Realtek)"
    with pytest.raises(UserError, match=r"no camera '3'.*Integrated Camera"):
        camera_address("3", platform="win32")


def test_what_is_given_beside_what_was_asked() -> None:
    given = GivenFormat((640, 480), 15.0, "yuyv422")
    assert compare(RequestedFormat(), given) == "640x480 at 15/s (yuyv422)"
    assert compare(RequestedFormat((640, 480), 15.0, "yuyv422"), given) == "640x480 at 15/s (yuyv422)"
    assert (
        compare(RequestedFormat((1280, 720), 30.0, "mjpeg"), given)
        == "640x480 at 15/s (yuyv422), asked for 1280x720, 30/s, mjpeg"
    )
    assert compare(RequestedFormat(frame_rate=30.0), GivenFormat((4, 4), None, "gray")) == "4x4 (gray)"


def test_wishes_that_a_device_refuses_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[dict[str, str]] = []
    real = av.open

    def fussy(url: str, **arguments: object) -> object:
        options = arguments["options"]
        assert isinstance(options, dict)
        tried.append(options)
        if "video_size" in options:
            raise OSError(5, "Input/output error")
        return real("testsrc2=duration=1", format="lavfi")

    monkeypatch.setattr(av, "open", fussy)
    address = Address("camera", "camera 0", "video=x", "dshow", {"a": "1"}, {"video_size": "9999x9999"})
    open_address(address).close()
    assert tried == [{"a": "1", "video_size": "9999x9999"}, {"a": "1"}]


@pytest.mark.skipif(Path("/dev/video99").exists(), reason="this machine has a hundred cameras")
def test_no_such_camera_is_one_line_with_the_way_out() -> None:
    with pytest.raises(UserError) as caught:
        open_source("camera:/dev/video99", microphone="none")
    line = str(caught.value)
    assert "camera /dev/video99 cannot be opened" in line
    assert "cameras on this machine: " in line
    assert "\n" not in line


def test_no_such_stream() -> None:
    with pytest.raises(UserError, match=r"tcp://127\.0\.0\.1:9 cannot be opened \(.*\): is it running"):
        open_source("tcp://127.0.0.1:9")


def test_passwords_stay_out_of_labels() -> None:
    address = stream_address("rtsp://anna:secret@camera.local/1")
    assert address.url == "rtsp://anna:secret@camera.local/1"
    assert address.label == "rtsp://***@camera.local/1"


def test_a_graph_that_is_none() -> None:
    with pytest.raises(UserError, match="cannot be opened"):
        open_source("lavfi:nosuchfilter")
