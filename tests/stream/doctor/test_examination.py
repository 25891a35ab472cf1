"""The whole examination, with devices faked at their edge only, and the command around it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from models.errors import SetupError, UserError
from stream.doctor.examination import DoctorOptions, examine
from stream.doctor.permissions import System
from stream.sources.devices import Device, DeviceList
from tests.commands import run_in_own_process
from tests.stream.sources.live_inputs import Devices, microphone, picture

if TYPE_CHECKING:
    from pathlib import Path

    from stream.doctor.findings import Finding, Report
    from stream.sources.devices import Address
    from tests.stream.sources.live_inputs import Device as Opened

QUICK = DoctorOptions(bundle="demo", recogniser="vosk-tiny", accelerator="eager", threads=1, seconds=0.3)
WINDOWS = System("win32")
TWO = DeviceList((Device("Front", ""), Device("Rear", "")), (Device("Array", ""),))


class Room(Devices):
    """An opener that gives a paced picture and a tone, whatever the devices are called."""

    def __call__(self, address: Address) -> Opened:
        return super().__call__(microphone() if address.kind == "microphone" else picture())


def subject(report: Report, name: str) -> Finding:
    return next(finding for finding in report.findings if finding.subject.startswith(name))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFECT_MODELS", str(tmp_path / "models"))


@pytest.mark.slow
async def test_everything_that_a_live_run_needs_is_tried() -> None:
    told: list[str] = []
    options = replace(QUICK, microphone="Array")
    opener = Room(camera=[lambda n, p: None, SetupError("it is in use")])
    report = await examine(options, told.append, opener=opener, system=WINDOWS, devices=TWO)
    assert report.can_run, report.verdict
    assert report.job == "stream-run --camera Front --microphone Array --bundle demo"
    for name in ("versions", "bundle demo", "face detector", "parts", "recogniser", "camera Front"):
        assert subject(report, name).state in ("ok", "warning"), name
    for name in ("microphone Array", "broker embedded", "accelerator", "disk", "clock"):
        assert subject(report, name).state in ("ok", "warning"), name
    # The second camera stands in nobody's way.
    assert subject(report, "camera Rear").state == "warning"
    assert any("0.3 s" in line for line in told)
    assert all(device.closed for device in opener.opened)


async def test_without_a_camera_the_run_cannot_be_made_and_with_a_damaged_bundle_neither() -> None:
    options = replace(QUICK, bundle="nobody", broker="none", microphone="none")
    report = await examine(options, system=System("linux"), devices=DeviceList((), ()))
    assert not report.can_run
    assert subject(report, "camera").state == "failed"
    assert "demo" in subject(report, "bundle nobody").says
    assert "camera" in report.verdict


async def test_a_detector_that_does_not_exist_is_a_mistake() -> None:
    with pytest.raises(UserError, match="unknown face detector 'eyes'"):
        await examine(DoctorOptions(detector="eyes"))


def test_a_job_reads_as_its_command() -> None:
    assert DoctorOptions().job("0") == "stream-run --camera 0"
    assert DoctorOptions(camera="rtsp://x/1").job("rtsp://x/1") == "stream-run rtsp://x/1"
    assert DoctorOptions(broker="mqtt://h").job("none") == "stream-run talk.mp4 --broker mqtt://h"


@pytest.mark.slow
def test_the_command_ends_by_its_verdict_and_is_json_for_programs() -> None:
    common = ["--bundle", "demo", "--recogniser", "vosk-tiny", "--accelerator", "eager", "--seconds", "0.3"]
    fine = run_in_own_process("stream-doctor", "--camera", "none", *common, "--json")
    assert fine.returncode == 0, fine.stderr
    document = json.loads(fine.stdout)
    assert document["can_run"] is True
    assert {"versions", "bundle demo", "broker embedded", "accelerator"} <= {
        finding["subject"] for finding in document["findings"]
    }
    away = run_in_own_process("stream-doctor", "--camera", "tcp://127.0.0.1:9", *common)
    assert away.returncode == 1, away.stderr
    assert "failed   tcp://127.0.0.1:9: " in away.stdout
    assert away.stdout.splitlines()[-1].startswith(
        "`stream-run tcp://127.0.0.1:9 --bundle demo` cannot run here"
    )


@pytest.mark.parametrize("arguments", [["--seconds", "0"], ["--detector", "eyes"], ["--bogus"]])
def test_wrong_options_are_one_line_and_status_2(arguments: list[str]) -> None:
    ran = run_in_own_process("stream-doctor", *arguments)
    assert ran.returncode == 2, ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_run_that_fails_points_to_the_doctor() -> None:
    ran = run_in_own_process(
        "stream-run", "tcp://127.0.0.1:9", "--microphone", "none", "--bundle", "demo", "--view", "none"
    )
    assert ran.returncode == 2
    assert ran.stderr.count("\n") == 1
    assert ran.stderr.endswith(
        "(`stream-doctor --camera tcp://127.0.0.1:9 --microphone none` looks into it)\n"
    )
