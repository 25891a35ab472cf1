"""Estimates in a loop: in order and whole for a recording, closed at a `break`, with an event loop and without."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

import affectstream
from stream.sinks.handover import ROOM
from tests.affectstream.conftest import running
from tests.stream.brokers import until

if TYPE_CHECKING:
    from pathlib import Path

    from stream.messages import Estimate

FRAMES = 90
LAVFI = "lavfi:testsrc2=s=64x48:r=30"


def check_whole(estimates: list[Estimate]) -> None:
    """Every frame twice, each kind in order, settled after provisional."""
    for settled in (False, True):
        assert [e.frame for e in estimates if e.settled is settled] == list(range(FRAMES))
    seen: set[int] = set()
    for estimate in estimates:
        assert not estimate.settled or estimate.frame in seen
        seen.add(estimate.frame)


def test_a_recording_comes_whole(talk: Path, quick: dict[str, Any]) -> None:
    estimates = affectstream.stream(talk, **quick)
    check_whole(list(estimates))
    assert estimates.status is not None
    assert estimates.status.phase == "stopped"
    assert estimates.status.drops == {}
    assert running() == []


@pytest.mark.parametrize("kind", ["provisional", "settled"])
def test_one_kind_alone(talk: Path, quick: dict[str, Any], kind: Any) -> None:
    estimates = list(affectstream.stream(talk, kind=kind, **quick))
    assert [e.frame for e in estimates] == list(range(FRAMES))
    assert {e.settled for e in estimates} == {kind == "settled"}


def test_a_recording_waits_for_a_slow_loop(talk: Path, quick: dict[str, Any]) -> None:
    """All the frames would be through in the time that the first step of this loop takes."""
    estimates = affectstream.stream(talk, **quick)
    taken: list[Estimate] = []
    for estimate in estimates:
        if not taken:
            time.sleep(5)
            assert estimates.status is not None
            waiting = estimates.status.frames + estimates.status.settled
            assert ROOM / 2 < waiting < 2 * FRAMES
        taken.append(estimate)
    check_whole(taken)


def test_a_break_closes_everything(talk: Path, quick: dict[str, Any]) -> None:
    for _ in affectstream.stream(talk, **quick):
        break
    assert running() == []


def test_a_break_from_a_live_source_closes_everything(quick: dict[str, Any]) -> None:
    for estimate in affectstream.stream(LAVFI, kind="provisional", **quick):
        assert not estimate.present.voice
        if estimate.frame >= 5:
            break
    assert running() == []


def test_an_error_in_the_loop_closes_everything(talk: Path, quick: dict[str, Any]) -> None:
    def loop() -> None:
        with affectstream.stream(talk, **quick) as estimates:
            for _ in estimates:
                raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        loop()
    assert running() == []


def test_it_is_read_once(talk: Path, quick: dict[str, Any]) -> None:
    estimates = affectstream.stream(talk, **quick)
    for _ in estimates:
        break
    with pytest.raises(affectstream.AffectError, match="read once"):
        iter(estimates)


def test_what_a_user_can_mend_is_raised_by_the_loop(tmp_path: Path, quick: dict[str, Any]) -> None:
    with pytest.raises(affectstream.UserError, match="no such file"):
        list(affectstream.stream(tmp_path / "missing.mp4", **quick))
    with pytest.raises(affectstream.UserError, match="no bundle 'none such'"):
        list(affectstream.stream("talk.mp4", bundle="none such"))


async def test_a_recording_comes_whole_to_an_event_loop(talk: Path, quick: dict[str, Any]) -> None:
    check_whole([estimate async for estimate in affectstream.astream(talk, **quick)])


async def test_a_loop_works_inside_a_running_event_loop(talk: Path, quick: dict[str, Any]) -> None:
    """As in Jupyter, where one always runs."""
    assert asyncio.get_running_loop().is_running()
    check_whole(list(affectstream.stream(talk, **quick)))


async def test_a_break_from_an_async_loop_closes_everything_soon(quick: dict[str, Any]) -> None:
    async for _ in affectstream.astream(LAVFI, microphone="none", **quick):
        break
    await until(lambda: not running(), timeout_s=30)


def test_an_event_loop_that_ends_right_after_the_break_waits_for_it(quick: dict[str, Any]) -> None:
    async def main() -> None:
        async for _ in affectstream.astream(LAVFI, **quick):
            break

    asyncio.run(main())
    assert running() == []


async def test_async_with_waits_until_everything_is_closed(quick: dict[str, Any]) -> None:
    async with affectstream.astream(LAVFI, **quick) as estimates:
        async for _ in estimates:
            break
    assert running() == []


async def test_a_cancelled_loop_closes_everything(quick: dict[str, Any]) -> None:
    began = asyncio.Event()

    async def watch() -> None:
        async for _ in affectstream.astream(LAVFI, **quick):
            began.set()

    task = asyncio.create_task(watch())
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert running() == []


def test_an_interpreter_that_ends_in_the_middle_ends_cleanly() -> None:
    script = (
        "import affectstream\n"
        f"estimates = iter(affectstream.stream({LAVFI!r}, bundle='demo', accelerator='eager'))\n"
        "print(next(estimates).frame)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.strip() == "0"


def test_a_sink_of_ones_own_takes_what_the_loop_takes(talk: Path, quick: dict[str, Any]) -> None:
    class Counter:
        taken = closed = 0

        def take(self, estimate: Estimate) -> None:
            self.taken += 1

        def close(self) -> None:
            self.closed += 1

    sink = Counter()
    check_whole(list(affectstream.stream(talk, sinks=[sink], **quick)))
    assert (sink.taken, sink.closed) == (2 * FRAMES, 1)
