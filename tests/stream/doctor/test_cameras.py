"""Cameras are looked through for real: pictures, a face and light, or the reason why not, and all are closed."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from models.errors import SetupError, UserError
from models.visual.detectors import HaarDetector
from stream.doctor import cameras
from stream.doctor.cameras import Sight, examine_camera, judge_sight, look, luma, no_camera
from stream.doctor.permissions import System
from stream.options import DEMO_RECORDING
from stream.sources.devices import Address, stream_address
from tests.stream.sources.live_inputs import Devices, damaged, microphone, picture, unplugged

LINUX = System("linux")
DETECTOR = HaarDetector()


def person() -> Address:
    """The demo's drawn person as a camera gives pictures: at their own pace."""
    path = str(DEMO_RECORDING).replace("\\", "/").replace(":", "\\\\:")
    return stream_address(f"lavfi:movie='{path}',realtime")


def test_a_person_in_front_of_a_camera_is_found() -> None:
    devices = Devices()
    found = examine_camera(person(), DETECTOR, frame_rate=30.0, system=LINUX, opener=devices, seconds=0.7)
    assert found.state == "ok", found
    assert "a face" in found.says
    assert found.measures["faces"] == 1
    assert found.measures["pictures_per_s"] > 15
    assert [device.closed for device in devices.opened] == [True]


def test_nobody_is_a_warning_with_a_way_out() -> None:
    found = examine_camera(picture(), DETECTOR, frame_rate=30.0, system=LINUX, seconds=0.5)
    assert found.state == "warning"
    assert "no face" in found.says
    assert "facing it" in found.mend


@pytest.mark.parametrize(
    ("value", "named", "mend"),
    [(2, "all black", "shutter"), (30, "too dark", "lamp"), (240, "too bright", "dim")],
)
def test_light_is_judged(value: int, named: str, mend: str) -> None:
    rgb = np.full((48, 64, 3), value, np.uint8)
    assert luma(rgb) == pytest.approx(value, abs=0.1)
    found = judge_sight("camera 0", Sight((64, 48), 60, 2.0, 0.3, rgb), [], frame_rate=30.0)
    assert found.state == "warning"
    assert named in found.says
    assert mend in found.mend


def test_a_slow_camera_is_told_what_to_ask_for() -> None:
    rgb = np.full((48, 64, 3), 128, np.uint8)
    found = judge_sight("camera 0", Sight((1920, 1080), 11, 2.0, 0.3, rgb), [], frame_rate=30.0)
    assert "5 pictures a second" in found.says
    assert "--size 640x480 --fps 30" in found.mend


def test_a_camera_that_cannot_be_opened_says_why_and_is_no_traceback() -> None:
    devices = Devices(
        camera=[SetupError("camera 0 cannot be opened (busy)", way_out="close the other program")]
    )
    found = examine_camera(picture(), DETECTOR, frame_rate=30.0, system=LINUX, opener=devices)
    assert (found.state, found.says) == ("failed", "camera 0 cannot be opened (busy)")
    assert found.mend == "close the other program"


def test_a_camera_that_fails_before_its_first_picture() -> None:
    devices = Devices(camera=[unplugged(0)])
    with pytest.raises(UserError, match="was opened, but no picture came"):
        look(picture(), opener=devices)
    assert devices.opened[0].closed


def test_a_damaged_packet_ends_nothing_and_is_counted() -> None:
    sight = look(picture(), opener=Devices(camera=[damaged({0, 4})]), seconds=0.4)
    assert (sight.decode_errors, sight.pictures > 3) == (2, True)
    found = judge_sight("camera 0", sight, [], frame_rate=30.0)
    assert "; 2 packets could not be decoded" in found.says
    assert found.measures["decode_errors"] == 2


def test_one_whose_packets_are_all_damaged_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cameras, "FIRST_PICTURE_S", 0.5)
    devices = Devices(camera=[damaged(range(1000))])
    found = examine_camera(picture(), DETECTOR, frame_rate=30.0, system=LINUX, opener=devices)
    assert found.state == "failed"
    assert "no picture came" in found.says
    assert "packets could not be decoded" in found.says
    assert devices.opened[0].closed


def test_one_that_is_damaged_from_some_picture_on_neither() -> None:
    began_s = time.monotonic()
    sight = look(picture(seconds=20), opener=Devices(camera=[damaged(range(5, 1000))]), seconds=0.5)
    assert sight.pictures == 5
    assert time.monotonic() - began_s < 10


def test_a_camera_without_a_picture() -> None:
    found = examine_camera(microphone(), DETECTOR, frame_rate=30.0, system=System("win32"))
    assert found.state == "failed"
    assert "has no picture" in found.says


@pytest.mark.skipif(Path("/dev/video99").exists(), reason="this machine has a hundred cameras")
def test_an_absent_device_file_is_to_be_brought() -> None:
    address = Address("camera", "camera 99", "/dev/video99", "v4l2")
    found = examine_camera(address, DETECTOR, frame_rate=30.0, system=LINUX)
    assert found.state == "failed"
    assert "connect a camera" in found.mend
    assert no_camera(LINUX).state == "failed"
