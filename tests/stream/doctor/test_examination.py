"""The whole examination, with devices faked at their edge only, and the command around it."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from models.errors import SetupError, UserError
from models.parts.install import pull
from stream.doctor import examination
from stream.doctor.examination import examine
from stream.doctor.options import DoctorOptions
from stream.doctor.permissions import System
from stream.doctor.table import as_lines
from stream.sources.devices import Device, DeviceList
from tests.commands import run_in_own_process
from tests.stream.brokers import free_port
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
    assert report.job == (
        "stream-run --camera Front --microphone Array --bundle demo --broker embedded --recogniser vosk-tiny "
        "--accelerator eager --threads 1"
    )
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


async def test_no_password_is_told() -> None:
    told: list[str] = []
    options = replace(
        QUICK,
        bundle="nobody",
        camera="rtsp://anna:secret@127.0.0.1:9/1",
        microphone="tcp://anna:secret@127.0.0.1:9",
        broker=f"mqtt://anna:secret@127.0.0.1:{free_port()}",
    )
    report = await examine(options, told.append, system=System("linux"), devices=DeviceList((), ()))
    assert "camera rtsp://***@127.0.0.1:9/1, 0.3 s" in told
    assert "secret" not in "".join(told)
    assert "secret" not in json.dumps(report.to_json())
    assert "secret" not in "".join(as_lines(report))


async def test_a_part_that_fails_is_told_once() -> None:
    for options in (replace(QUICK, detector="yunet"), replace(QUICK, recogniser="vosk-model-en-us-0.22")):
        report = await examine(
            replace(options, broker="none", camera="none"), system=WINDOWS, devices=DeviceList((), ())
        )
        failed = [finding for finding in report.findings if finding.state == "failed"]
        assert len(failed) == 1, failed
        assert failed[0].mend.startswith("models-pull "), failed
        assert "recommended" not in failed[0].mend


async def test_a_damaged_part_is_told_by_what_fails_for_it(fixtures: Path) -> None:
    pull("vosk-model-small-en-us-0.15", source=fixtures / "vosk-tiny").path.joinpath("README").write_text("x")
    options = replace(QUICK, recogniser="vosk-model-small-en-us-0.15", broker="none", camera="none")
    report = await examine(options, system=WINDOWS, devices=DeviceList((), ()))
    about = [finding for finding in report.findings if "vosk-model-small" in finding.says]
    assert [finding.subject for finding in about] == ["recogniser"]
    assert about[0].mend == "install it again with `models-pull vosk-model-small-en-us-0.15`"


async def test_an_accelerator_that_does_not_exist_is_its_own_finding() -> None:
    options = replace(QUICK, accelerator="gpu", broker="none", camera="none", recogniser="none")
    report = await examine(options, system=WINDOWS, devices=DeviceList((), ()))
    found = subject(report, "accelerator")
    assert found.state == "failed"
    assert "no accelerator 'gpu'" in found.says
    assert "models-pull" not in found.mend


async def test_a_device_that_does_not_answer_holds_up_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examination, "BLOCKED_S", 0.2)
    answered = threading.Event()

    class Silent(Room):
        def __call__(self, address: Address) -> Opened:
            answered.wait(60)
            return super().__call__(address)

    options = replace(QUICK, bundle="nobody", broker="none", microphone="Array")
    report = await examine(options, opener=Silent(), system=WINDOWS, devices=TWO)
    assert subject(report, "camera Front").state == "failed"
    assert "does not answer" in subject(report, "microphone Array").says
    answered.set()


async def test_nothing_is_told_of_a_broker_that_is_not_wanted() -> None:
    told: list[str] = []
    options = replace(QUICK, bundle="nobody", broker="none", camera="none", microphone="none")
    await examine(options, told.append, system=WINDOWS, devices=DeviceList((), ()))
    assert not any("broker" in line for line in told)


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
        "`stream-run tcp://127.0.0.1:9 --bundle demo --broker embedded --recogniser vosk-tiny "
        "--accelerator eager` cannot run here"
    )


@pytest.mark.parametrize("arguments", [["--seconds", "0"], ["--detector", "eyes"], ["--bogus"]])
def test_wrong_options_are_one_line_and_status_2(arguments: list[str]) -> None:
    ran = run_in_own_process("stream-doctor", *arguments)
    assert ran.returncode == 2, ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_wrong_detector_is_told_before_anything_is_loaded() -> None:
    ran = run_in_own_process("stream-doctor", "--detector", "eyes", without="torch")
    assert (ran.returncode, ran.stderr) == (
        2,
        "stream-doctor: unknown face detector 'eyes': choose auto, haar or yunet\n",
    )


def test_a_run_that_fails_points_to_the_doctor() -> None:
    ran = run_in_own_process(
        "stream-run", "tcp://127.0.0.1:9", "--microphone", "none", "--bundle", "demo", "--view", "none"
    )
    assert ran.returncode == 2
    assert ran.stderr.count("\n") == 1
    assert ran.stderr.endswith(
        "(`stream-doctor --camera tcp://127.0.0.1:9 --microphone none --bundle demo --broker none` "
        "looks into it)\n"
    )
