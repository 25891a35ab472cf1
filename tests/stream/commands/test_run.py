"""`stream-run`'s options: what they mean, what goes wrong in one line, and that asking for help costs nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from models.accelerate.backend import BACKENDS
from models.errors import UserError
from stream import build, session
from stream.build import load
from stream.commands.run import _app
from stream.flow.ladder import BUDGETS
from stream.options import DEFAULT_BUNDLE, DEMO_BUNDLE, DEMO_RECORDING, InputOptions
from stream.session import MOST_THREADS, default_threads
from tests.commands import run_in_own_process
from tests.stream.brokers import free_port

if TYPE_CHECKING:
    from pathlib import Path


def plain(text: str) -> str:
    return " ".join(re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯─]", " ", text).split())


def test_help_explains_every_option_and_shows_every_kind_of_source() -> None:
    said = plain(CliRunner().invoke(_app, ["--help"], env={"COLUMNS": "200"}).output)
    for option in (
        *("--camera", "--microphone", "--size", "--fps", "--list-devices", "--demo", "--bundle", "--broker"),
        *("--pace", "--record", "--rate", "--detector", "--recogniser", "--threads", "--budget", "--view"),
        *("--accelerator", "--latency-target", "--lsl", "--lsl-name", "--lsl-markers", "--metrics"),
        *("--log-format", "--log-level"),
        *("--session", "--participant", "--notes", "--keep-media"),
    ):
        assert option in said, option
    for example in (
        "--camera 0",
        "rtsp://",
        "talk.mp4 --pace fast",
        "--camera 0 --budget full",
        "--list-devices",
    ):
        assert f"stream-run {example}" in said, example
    for name in (*BUDGETS, *BACKENDS):
        assert name in said, name
    assert "CUDA and TensorRT have not yet run on hardware" in said


def test_help_does_not_wait_for_the_networks() -> None:
    probe = "import sys, stream.commands.run; print('torch' in sys.modules or 'cv2' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("arguments", "bundle"),
    [
        (["talk.mp4"], DEFAULT_BUNDLE),
        (["--camera", "0"], DEFAULT_BUNDLE),
        (["--demo"], DEMO_BUNDLE),
        (["--demo", "--bundle", "people"], "people"),
        (["talk.mp4", "--bundle", "demo"], "demo"),
        (["talk.mp4", "--bundle", "mine/"], "mine/"),
    ],
)
def test_real_people_are_seen_by_the_bundle_for_them_and_the_drawn_one_by_its_own(
    arguments: list[str], bundle: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "talk.mp4").touch()
    asked: list[InputOptions] = []

    async def stream(input_options: InputOptions, output_options: object) -> None:
        asked.append(input_options)

    monkeypatch.setattr(session, "stream", stream)
    ran = CliRunner().invoke(_app, arguments, catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    assert [options.bundle for options in asked] == [bundle]
    assert InputOptions("talk.mp4").bundle == DEFAULT_BUNDLE == "people"


def test_without_the_default_bundle_the_way_out_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(build, "shipped_bundles", lambda: ["demo"])
    monkeypatch.setattr(build, "resolve_bundle", lambda name: pytest.fail("it is not looked for"))
    for look in (lambda: default_threads(DEFAULT_BUNDLE), lambda: load(InputOptions(str(DEMO_RECORDING)))):
        with pytest.raises(UserError, match=r"the bundle 'people'.*--bundle demo$") as refused:
            look()
        assert "\n" not in str(refused.value)


def test_devices_are_listed_or_said_to_be_absent() -> None:
    ran = run_in_own_process("stream-run", "--list-devices")
    assert ran.returncode == 0, ran.stderr
    assert re.search(r"camera", ran.stdout, re.IGNORECASE)
    assert re.search(r"microphone", ran.stdout, re.IGNORECASE)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--camera", "99"], "99"),
        (["--camera", "0", "talk.mp4"], "one source"),
        (["--camera", "0", "--size", "big"], "1280x720"),
        ([str(DEMO_RECORDING), "--budget", "small"], "half-folds"),
        ([str(DEMO_RECORDING), "--budget", "one-fold"], "never degraded"),
        ([str(DEMO_RECORDING), "--accelerator", "gpu"], "no accelerator 'gpu'"),
        ([str(DEMO_RECORDING), "--accelerator", "cuda:int8"], "cuda offers float32, float16"),
        ([str(DEMO_RECORDING), "--latency-target", "-1"], "--latency-target"),
        ([str(DEMO_RECORDING), "--latency-target", "nan"], "--latency-target"),
        (["rtsp://127.0.0.1:1/cam"], "127.0.0.1:1"),
    ],
)
def test_what_cannot_be_is_one_line_and_status_2(arguments: list[str], named: str) -> None:
    ran = run_in_own_process("stream-run", *arguments, "--bundle", DEMO_BUNDLE, "--view", "none")
    assert ran.returncode == 2, ran.stderr
    assert ran.stderr.count("\n") == 1, ran.stderr
    assert named in ran.stderr


def test_an_absent_recording_is_told_before_the_networks_are_loaded() -> None:
    ran = run_in_own_process("stream-run", "nosuch.mp4", without="torch")
    assert (ran.returncode, ran.stderr) == (
        2,
        "stream-run: nosuch.mp4: no such file; check its name and folder\n",
    )


def test_the_doctor_that_is_named_examines_the_same_run() -> None:
    away = f"127.0.0.1:{free_port()}"
    ran = run_in_own_process(
        *("stream-run", f"tcp://anna:secret@{away}", "--microphone", "none", "--bundle", "demo"),
        *("--broker", f"mqtt://anna:secret@{away}", "--id", "desk", "--detector", "haar"),
        *("--recogniser", "none", "--accelerator", "eager", "--view", "none"),
    )
    assert ran.returncode == 2
    assert "secret" not in ran.stderr
    assert ran.stderr.endswith(
        f"(`stream-doctor --camera 'tcp://***@{away}' --microphone none --bundle demo "
        f"--broker mqtt://anna@{away} --id desk --detector haar --recogniser none --accelerator eager` "
        "looks into it)\n"
    )


def test_a_compact_bundle_is_served_by_one_thread() -> None:
    assert default_threads("demo") == 1
    with pytest.raises(UserError, match="nobody"):
        default_threads("nobody")


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system binds no process to processors")
@pytest.mark.parametrize(("allowed", "threads"), [({1}, 1), ({0, 1, 5}, 3), (set(range(16)), MOST_THREADS)])
def test_a_large_bundle_is_served_by_the_processors_that_the_process_may_use(
    allowed: set[int], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "find_manifest", lambda name, shared: SimpleNamespace(preset="paper"))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: allowed)
    assert default_threads("demo") == threads


def test_auto_and_full_are_budgets_of_recordings_too(tmp_path: Path) -> None:
    for budget in ("auto", "full"):
        parts = load(InputOptions(str(DEMO_RECORDING), bundle=DEMO_BUNDLE, recogniser="none", budget=budget))
        parts.source.close()
