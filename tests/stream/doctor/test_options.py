"""A job and an examination read as their commands, with every option and without passwords."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from models.errors import UserError
from stream.doctor.options import DoctorOptions, shown
from stream.options import InputOptions, OutputOptions


def test_a_job_reads_as_its_command() -> None:
    assert DoctorOptions().job("0") == "stream-run --camera 0 --broker embedded"
    streamed = DoctorOptions(camera="rtsp://x/1", broker="none")
    assert streamed.job("rtsp://x/1") == "stream-run rtsp://x/1"
    assert DoctorOptions(broker="mqtt://h").job("none") == "stream-run talk.mp4 --broker mqtt://h"


def test_a_job_names_every_option() -> None:
    options = DoctorOptions(
        microphone="Array",
        bundle="mine",
        broker="mqtts://h",
        ca_file=Path("ca.pem"),
        publisher_id="desk",
        detector="haar",
        recogniser="none",
        accelerator="eager",
        threads=2,
        client_cert=Path("our.pem"),
        client_key=Path("our.key"),
        broker_password_file=Path("password"),
    )
    named = (
        "--microphone Array --bundle mine --broker mqtts://h --ca-file ca.pem --client-cert our.pem "
        "--client-key our.key --broker-password-file password --id desk --detector haar --recogniser none "
        "--accelerator eager --threads 2"
    )
    assert options.job("0") == f"stream-run --camera 0 {named}"
    assert options.command() == f"stream-doctor {named}"


def test_passwords_are_left_out() -> None:
    options = DoctorOptions(
        camera="rtsp://anna:secret@cam/1", microphone="tcp://a:secret@m", broker="mqtt://anna:secret@h"
    )
    for command in (options.job("rtsp://anna:secret@cam/1"), options.command()):
        assert "secret" not in command
        assert "'rtsp://***@cam/1'" in command
        assert "mqtt://anna@h" in command


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("rtsp://anna:s@cret@cam/1@2", "rtsp://***@cam/1@2"),
        ("lavfi:movie=rtsp://anna:secret@cam/1", "lavfi:movie=rtsp://***@cam/1"),
        ("Front@door", "Front@door"),
    ],
)
def test_a_streams_password_is_never_shown(name: str, told: str) -> None:
    assert shown(name) == told


@pytest.mark.parametrize(
    ("source", "camera"),
    [
        ("camera:0", " --camera 0"),
        ("camera:Front door", " --camera 'Front door'"),
        ("rtsp://cam/1", " --camera rtsp://cam/1"),
        ("talk.mp4", " --camera none"),
    ],
)
def test_what_examines_a_run(source: str, camera: str) -> None:
    run = InputOptions(source, accelerator="auto")
    assert DoctorOptions.for_run(run, OutputOptions()).command() == f"stream-doctor{camera} --broker none"
    embedded = OutputOptions(broker="embedded")
    assert DoctorOptions.for_run(run, embedded).command() == f"stream-doctor{camera}"


def test_a_detector_that_does_not_exist_is_a_mistake() -> None:
    with pytest.raises(UserError, match="unknown face detector 'eyes'"):
        DoctorOptions(detector="eyes")


def test_they_do_not_wait_for_the_networks() -> None:
    probe = "import sys, stream.doctor.options; print('torch' in sys.modules or 'cv2' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
