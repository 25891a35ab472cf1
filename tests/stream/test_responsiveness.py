"""Blocking work is off the event loop: a whole run of the demo, with every sink there is, watched from inside."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stream.options import DEMO_RECORDING, InputOptions, OutputOptions
from stream.session import stream
from tests.stream.brokers import Mosquitto

MOST_MS = 20.0


def name_of(handle: asyncio.Handle) -> str:
    """The task or function that a callback runs; its arguments may hold a whole state, and are left out."""
    callback = getattr(handle, "_callback", None)
    owner = getattr(callback, "__self__", None)
    name = owner.get_name() if isinstance(owner, asyncio.Task) else type(owner).__name__
    return f"{name}: {getattr(callback, '__qualname__', type(callback).__name__)}"


@contextmanager
def watched_loop() -> Iterator[list[tuple[float, str]]]:
    """How long each callback held the event loop, in milliseconds of its thread's own processor time.

    The clock on the wall would count what other processes of this machine took meanwhile.
    """
    held: list[tuple[float, str]] = []
    run = asyncio.Handle._run

    def timed(handle: asyncio.Handle) -> None:
        began_s = time.thread_time()
        run(handle)
        held.append(((time.thread_time() - began_s) * 1e3, name_of(handle)))

    asyncio.Handle._run = timed  # type: ignore[method-assign]
    try:
        yield held
    finally:
        asyncio.Handle._run = run  # type: ignore[method-assign]


@pytest.mark.slow
async def test_nothing_holds_the_event_loop_in_a_whole_run_of_the_demo(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    choices = InputOptions(str(DEMO_RECORDING), recogniser="vosk-tiny")
    outputs = OutputOptions(
        broker=f"mqtt://127.0.0.1:{mosquitto.port}",
        publisher_id="me",
        record=tmp_path / "out.jsonl",
        publish_transcript=True,
        view="plain",
    )
    with watched_loop() as held:
        summary = await stream(choices, outputs)
    assert summary.settled == summary.frames > 900
    assert len(held) > 5 * summary.frames, "the loop was watched"
    longest_ms, what = max(held)
    assert longest_ms < MOST_MS, what
