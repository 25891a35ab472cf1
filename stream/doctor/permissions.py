"""Whether this system lets a program use cameras and microphones, and where its owner says so, in words. Pure."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

Device = Literal["camera", "microphone"]

_GROUPS: Final[dict[Device, str]] = {"camera": "video", "microphone": "audio"}
_PRIVACY: Final[dict[Device, str]] = {"camera": "Camera", "microphone": "Microphone"}


@dataclass(frozen=True)
class System:
    """What decides how devices are allowed: `platform` as `sys.platform` has it, and whether this is a container, or
    Linux inside Windows (WSL).
    """

    platform: str
    container: bool = False
    wsl: bool = False

    @classmethod
    def here(cls, root: Path = Path("/")) -> System:
        """This one."""
        release = os.uname().release.lower() if hasattr(os, "uname") else ""
        marks = (root / ".dockerenv", root / "run/.containerenv")
        return cls(sys.platform, any(mark.exists() for mark in marks), "microsoft" in release)

    @property
    def linux(self) -> bool:
        """Whether devices are files."""
        return self.platform.startswith("linux")


def how_to_allow(device: Device, system: System) -> str:
    """Where somebody lets a program use the devices of a kind, for that system."""
    if system.platform == "darwin":
        return (
            f"allow it to your terminal in System Settings > Privacy & Security > {_PRIVACY[device]}, "
            "then start the terminal anew"
        )
    if system.platform == "win32":
        return (
            f"switch on 'Let desktop apps access your {device}' in Settings > Privacy & security > "
            f"{_PRIVACY[device]}"
        )
    return f"sudo usermod -aG {_GROUPS[device]} $USER, then log out and in"


def how_to_bring(device: Device, system: System) -> str:
    """What to do on a system that shows no device of a kind."""
    if system.linux and system.wsl:
        return f"attach the {device} to WSL with usbipd-win, or install affectstream in Windows"
    if system.linux and system.container:
        hand_over = "--device /dev/video0" if device == "camera" else "--device /dev/snd"
        return f"start the container with {hand_over}"
    if system.linux:
        return f"connect a {device}; one that is connected and not listed needs its driver (see dmesg)"
    return f"connect a {device}, and {how_to_allow(device, system)}"


def may_open(path: Path) -> bool:
    """Whether this user may read and write a device's file; True where there is none to ask about."""
    return not path.exists() or os.access(path, os.R_OK | os.W_OK)
