"""Every system has its own words for leave to use a device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stream.doctor.permissions import Device, System, how_to_allow, how_to_bring, may_open

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("system", "device", "named"),
    [
        (System("linux"), "camera", "usermod -aG video"),
        (System("linux"), "microphone", "usermod -aG audio"),
        (System("darwin"), "camera", "Privacy & Security > Camera"),
        (System("darwin"), "microphone", "Privacy & Security > Microphone"),
        (System("win32"), "camera", "Let desktop apps access your camera"),
    ],
)
def test_leave_is_given_in_the_systems_own_words(system: System, device: Device, named: str) -> None:
    assert named in how_to_allow(device, system)


@pytest.mark.parametrize(
    ("system", "named"),
    [
        (System("linux"), "driver"),
        (System("linux", container=True), "--device /dev/video0"),
        (System("linux", wsl=True), "usbipd"),
        (System("darwin"), "Privacy"),
    ],
)
def test_an_absent_device_is_brought_as_the_system_has_it(system: System, named: str) -> None:
    assert named in how_to_bring("camera", system)


def test_a_container_is_known_by_its_marks(tmp_path: Path) -> None:
    assert not System.here(tmp_path).container
    (tmp_path / ".dockerenv").touch()
    assert System.here(tmp_path).container


def test_what_is_not_there_is_not_forbidden(tmp_path: Path) -> None:
    assert may_open(tmp_path / "video0")
    (tmp_path / "video0").touch()
    assert may_open(tmp_path / "video0")
