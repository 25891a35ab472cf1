"""Microphones are listened to for real: their level, or the reason why there is none, and all are closed."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from models.errors import SetupError
from stream.doctor.microphones import Hearing, examine_microphone, judge_hearing, level_db
from stream.doctor.permissions import System
from stream.sources.devices import stream_address
from tests.stream.sources.live_inputs import Devices, damaged, microphone, picture, unplugged

LINUX = System("linux")


def test_a_tone_is_heard_at_its_level() -> None:
    devices = Devices()
    found = examine_microphone(microphone(), system=LINUX, opener=devices, seconds=0.5)
    assert found.state == "ok", found
    # lavfi's sine has an amplitude of an eighth: 20 log10(1/8) - 3 dB.
    assert found.measures["level_db"] == pytest.approx(-21.1, abs=1.0)
    assert [device.closed for device in devices.opened] == [True]


def test_digital_silence_is_a_muted_microphone() -> None:
    silence = replace(stream_address("lavfi:anullsrc=r=16000:cl=mono,arealtime"), kind="microphone")
    found = examine_microphone(silence, system=System("darwin"), seconds=0.4)
    assert found.state == "warning"
    assert "digital silence" in found.says
    assert "Privacy & Security" in found.mend


@pytest.mark.parametrize(
    ("amplitude", "state", "named"),
    [(0.0005, "warning", "too quiet"), (0.1, "ok", "level"), (3.0, "warning", "cut off")],
)
def test_levels_are_judged(amplitude: float, state: str, named: str) -> None:
    tone = np.clip(amplitude * np.sin(np.arange(16_000) / 10), -1, 1).astype(np.float32)
    found = judge_hearing("microphone", Hearing.of(tone), LINUX)
    assert (found.state, named in found.says) == (state, True), found


def test_levels_are_rms_in_db_of_full_scale() -> None:
    assert level_db(np.ones(10, np.float32)) == pytest.approx(0.0)
    assert level_db(np.full(10, 0.1, np.float32)) == pytest.approx(-20.0, abs=1e-3)
    assert level_db(np.zeros(10, np.float32)) == -math.inf


@pytest.mark.parametrize("act", [SetupError("it cannot be opened (busy)"), unplugged(0)])
def test_one_that_cannot_be_heard_names_the_way_without(act: object) -> None:
    devices = Devices(microphone=[act])  # type: ignore[list-item]
    found = examine_microphone(microphone(), system=LINUX, opener=devices)
    assert found.state == "failed"
    assert "--microphone none does without" in found.mend
    assert all(device.closed for device in devices.opened)


def test_a_damaged_packet_ends_nothing_and_is_counted() -> None:
    devices = Devices(microphone=[damaged({0, 4})])
    found = examine_microphone(microphone(), system=LINUX, opener=devices, seconds=0.4)
    assert found.state == "ok", found
    assert "; 2 packets could not be decoded" in found.says
    assert found.measures["decode_errors"] == 2
    silent = Devices(microphone=[damaged(range(1000))])
    found = examine_microphone(microphone(), system=LINUX, opener=silent, seconds=0.2)
    assert (found.state, "packets could not be decoded" in found.says) == ("failed", True)


def test_a_source_without_sound() -> None:
    assert examine_microphone(picture(), system=LINUX).state == "failed"
