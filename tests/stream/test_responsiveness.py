"""Blocking work is off the event loop: a whole run of the demo, with every sink there is, watched from inside."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
import pytest

from stream.options import DEMO_BUNDLE, DEMO_RECORDING, InputOptions, OutputOptions
from stream.session import stream
from tests.stream.brokers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.stream.brokers import Mosquitto

MOST_MS = 20.0
"""On a host that does the same work in the same time whenever it is asked to."""


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

    asyncio.Handle._run = timed  # type: ignore[method-assign, assignment]
    try:
        yield held
    finally:
        asyncio.Handle._run = run  # type: ignore[method-assign]


@contextmanager
def watched_host() -> Iterator[list[float]]:
    """How long the same few milliseconds of work took, over and over in a thread beside, by its processor time.

    What varies there is the host's doing (other processes in its caches, its clock): the run's own cannot be blamed.
    """
    taken_ms: list[float] = []
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(0.05):
            began_s = time.thread_time()
            sum(i * i for i in range(20_000))
            taken_ms.append((time.thread_time() - began_s) * 1e3)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        yield taken_ms
    finally:
        ended.set()
        worker.join()


def look_at_the_page(port: int) -> None:
    """A viewer that comes once the page is there, and stays until its end."""
    while True:
        try:
            with httpx.stream("GET", f"http://127.0.0.1:{port}/events", timeout=30) as answer:
                assert "event: bye" in list(answer.iter_lines())
                return
        except httpx.ConnectError:
            time.sleep(0.1)


@pytest.mark.slow
async def test_nothing_holds_the_event_loop_in_a_whole_run_of_the_demo(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    port = free_port()
    input_options = InputOptions(str(DEMO_RECORDING), bundle=DEMO_BUNDLE, recogniser="vosk-tiny")
    output_options = OutputOptions(
        broker=f"mqtt://127.0.0.1:{mosquitto.port}",
        publisher_id="me",
        record=tmp_path / "out.jsonl",
        publish_transcript=True,
        view="plain",
        page=True,
        page_address=f"127.0.0.1:{port}",
        preview=True,
    )
    viewer = threading.Thread(target=look_at_the_page, args=(port,))
    viewer.start()
    with watched_host() as same_work_ms, watched_loop() as held:
        summary = await stream(input_options, output_options)
    viewer.join(30)
    assert not viewer.is_alive()
    assert summary.settled == summary.frames > 900
    assert len(held) > 5 * summary.frames, "the loop was watched"
    longest_ms, what = max(held)
    slowdown = max(same_work_ms) / statistics.median(same_work_ms)
    assert longest_ms < MOST_MS * slowdown, what
