"""Examinations that a device may block for ever: each in a thread of its own, waited for so long and no longer."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from stream.doctor.findings import Finding

CLOSE_S: Final = 3.0
"""How long a cancelled examination is waited for, so that its device is closed."""


async def within(timeout_s: float, examine: Callable[[], Finding], late: Finding) -> Finding:
    """What `examine`, which blocks, finds; `late` where it has found nothing after so long.

    Nothing can interrupt a driver that does not answer: the thread is left behind, and ends with the process. Raises
    what `examine` raises.
    """
    loop = asyncio.get_running_loop()
    found: asyncio.Future[Finding] = loop.create_future()

    def settle(finding: Finding | None, error: BaseException | None) -> None:
        if found.done():
            return
        if finding is not None:
            found.set_result(finding)
        elif error is not None:
            found.set_exception(error)

    def run() -> None:
        finding: Finding | None = None
        error: BaseException | None = None
        try:
            finding = examine()
        except BaseException as raised:  # handed over to whoever waits
            error = raised
        with suppress(RuntimeError):  # the loop has ended: nobody waits any more
            loop.call_soon_threadsafe(settle, finding, error)

    threading.Thread(target=run, name="stream-doctor", daemon=True).start()
    try:
        done, _ = await asyncio.wait([found], timeout=timeout_s)
    except asyncio.CancelledError:
        await asyncio.wait([found], timeout=CLOSE_S)
        found.cancel()
        raise
    if not done:
        found.cancel()
        return late
    return found.result()
