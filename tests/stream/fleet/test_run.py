"""Several sources in one process: each gives what it gives alone, and fails alone."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import httpx
import pytest

from stream.fleet.plan import FleetEntry, SourcePlan, plan_sources
from stream.fleet.run import run_fleet
from stream.options import DEMO_BUNDLE, InputOptions, OutputOptions
from stream.page.options import PageOptions
from stream.session import stream
from tests.commands import run_in_own_process
from tests.stream.broker_fixtures import mosquitto, own_state_folder, subscribe
from tests.stream.brokers import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.commands import RunCommand
    from tests.stream.brokers import Mosquitto, Subscriber

__all__ = ["mosquitto", "own_state_folder", "subscribe"]

CLIPS = ("bbaf2n.mpg", "lbax4n.mpg", "swiz3n.mpg")
INPUT = InputOptions("", bundle=DEMO_BUNDLE, pace="fast", recogniser="none")


@pytest.fixture
def clips(fixtures: Path) -> list[Path]:
    return [fixtures / "clips" / name for name in CLIPS]


def plans(sources: Sequence[Path], record: Path | None = None) -> list[SourcePlan]:
    entries = [FleetEntry(source=str(source)) for source in sources]
    return plan_sources(entries, INPUT, OutputOptions(view="none", record=record))


async def test_each_recordings_record_is_the_same_to_the_byte_as_alone(
    clips: list[Path], tmp_path: Path
) -> None:
    together, alone = tmp_path / "together", tmp_path / "alone"
    ended = await run_fleet(plans(clips, together), view="none")
    assert [each.name for each in ended] == ["bbaf2n", "lbax4n", "swiz3n"]
    assert all(each.summary is not None and each.summary.settled == 75 for each in ended)
    alone.mkdir()
    for plan in plans(clips, alone):
        await stream(plan.input_options, plan.output_options)
        name = f"{plan.name}.jsonl"
        assert (together / name).read_bytes() == (alone / name).read_bytes(), name


async def test_one_that_cannot_be_opened_is_named_and_the_others_run_to_their_ends(
    clips: list[Path], tmp_path: Path
) -> None:
    ended = await run_fleet(plans([clips[0], tmp_path / "nosuch.mp4"], tmp_path / "out"), view="none")
    assert ended[0].error is None
    assert "nosuch.mp4" in str(ended[1].error)
    assert len((tmp_path / "out" / "bbaf2n.jsonl").read_text().splitlines()) == 75


async def test_one_page_shows_all_of_them_and_steers_each(clips: list[Path]) -> None:
    options = PageOptions(port=free_port())
    live = [
        replace(plan, input_options=replace(plan.input_options, pace="live")) for plan in plans(clips[:2])
    ]
    running = asyncio.create_task(run_fleet(live, view="none", page=options))
    seen: set[str] = set()
    async with httpx.AsyncClient(timeout=30) as client:
        while not seen:
            with contextlib.suppress(httpx.ConnectError):
                async with client.stream("GET", f"{options.url()}events") as answer:
                    async for line in answer.aiter_lines():
                        if line.startswith("data: ") and "publishers" in line:
                            seen |= set(json.loads(line.removeprefix("data: "))["publishers"])
                        if seen == {"bbaf2n", "lbax4n"}:
                            break
            await asyncio.sleep(0.1)
        asked = {"publisher": "lbax4n", "command": "recenter"}
        assert (await client.post(f"{options.url()}command", json=asked)).json()["obeyed"]
        asked = {"publisher": "nobody", "command": "recenter"}
        assert (await client.post(f"{options.url()}command", json=asked)).status_code == 404
    ended = await running
    assert [each.summary is not None and each.summary.settled for each in ended] == [75, 75]


def test_the_command_says_which_failed(run_command: RunCommand, tmp_path: Path) -> None:
    missing = [tmp_path / "a.mp4", tmp_path / "b.mp4"]
    said = run_command(
        "stream-run", *missing, "--bundle", DEMO_BUNDLE, "--accelerator", "eager", "--view", "none"
    ).said
    assert "2 of 2 sources failed: a: " in said


def test_live_sources_publish_side_by_side_under_their_ids(
    mosquitto: Mosquitto, subscribe: Callable[[int], Subscriber], tmp_path: Path
) -> None:
    fleet = tmp_path / "fleet.toml"
    pattern = "lavfi:testsrc2=size=160x120:rate=30:duration=3,realtime"
    fleet.write_text(
        "".join(f'[[source]]\nid = "{name}"\nsource = "{pattern}"\n' for name in ("desk", "hall")),
        encoding="utf-8",
    )
    heard = subscribe(mosquitto.port)
    done = run_in_own_process(
        *(
            "stream-run",
            "--fleet",
            fleet,
            "--accelerator",
            "eager",
            "--bundle",
            DEMO_BUNDLE,
            "--view",
            "none",
        ),
        *("--broker", f"mqtt://127.0.0.1:{mosquitto.port}", "--id", "lab"),
    )
    assert done.returncode == 0, done.stderr
    for name in ("lab-desk", "lab-hall"):
        frames = [json.loads(payload)["frame"] for payload in heard.payloads(f"affect/{name}/settled")]
        assert frames == sorted(set(frames))
        assert len(frames) > 60
        assert heard.payloads(f"affect/{name}/available")[-1] == "stopped"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["a.mp4", "--camera", "0"], "several of one kind"),
        (["--camera", "0", "--camera", "1", "--microphone", "1"], "one microphone cannot be heard"),
        (["a.mp4", "b.mp4", "--labels", "a.txt"], "labels belong to one recording"),
        (["a.mp4", "b.mp4", "--id", "a/b"], "cannot be part of a topic"),
        (["--fleet", "nowhere.toml"], "cannot read the fleet's file"),
    ],
)
def test_what_cannot_be_meant_of_several_is_one_line(
    arguments: list[str], named: str, run_command: RunCommand
) -> None:
    assert named in run_command("stream-run", *arguments).said
