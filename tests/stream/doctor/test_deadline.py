"""An examination is waited for so long and no longer; what it finds and raises comes back."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from models.errors import UserError
from stream.doctor.deadline import within
from stream.doctor.findings import Finding

SEEN = Finding("camera 0", "ok", "seen")
LATE = Finding("camera 0", "failed", "it does not answer")


async def test_what_is_found_in_time_comes_back() -> None:
    assert await within(5.0, lambda: SEEN, LATE) is SEEN


async def test_a_device_that_blocks_for_ever_holds_up_nothing() -> None:
    blocked = threading.Event()

    def examine() -> Finding:
        blocked.wait(60)
        return SEEN

    began_s = time.monotonic()
    assert await within(0.1, examine, LATE) is LATE
    assert time.monotonic() - began_s < 5
    blocked.set()


async def test_what_is_raised_is_raised() -> None:
    def examine() -> Finding:
        raise UserError("it is away")

    with pytest.raises(UserError, match="it is away"):
        await within(5.0, examine, LATE)


async def test_cancelled_it_waits_for_the_device_to_be_closed() -> None:
    closed = threading.Event()

    def examine() -> Finding:
        time.sleep(0.3)
        closed.set()
        return SEEN

    running = asyncio.ensure_future(within(5.0, examine, LATE))
    await asyncio.sleep(0.1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert closed.is_set()
