"""The LSL sink: an outlet for provisional estimates, and one for settled ones, both stamped at capture."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from stream.flow.threads import finish_in_thread
from stream.logs import note
from stream.lsl.clock import CaptureClock
from stream.lsl.library import load_pylsl
from stream.lsl.outlets import make_outlet, sample
from stream.sinks.base import QuietSink

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stream.lsl.outlets import StreamDescription
    from stream.messages import Estimate

log = logging.getLogger(__name__)

LINGER_S: Final = 1.0
"""How long outlets stay once all is pushed, where somebody listens: what is on its way would be lost with them."""


class LslSink(QuietSink):
    """Publishes two streams, `NAME` and `NAME settled`, to whoever in the laboratory listens.

    liblsl sends from threads of its own and keeps, for each listener, what that has not taken: pushing waits for
    nobody. `wall_clock` is the one that estimates' times of capture are on, in seconds.
    """

    name = "lsl"

    def __init__(
        self, description: StreamDescription, *, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._description = description
        self._wall_clock = wall_clock
        self._outlets: dict[bool, Any] = {}
        self._clock: CaptureClock | None = None
        self._counters: Counter[str] = Counter(lsl_pushed=0)
        self._drops: Counter[str] = Counter()

    @property
    def drops(self) -> Mapping[str, int]:
        """`lsl_failed`: liblsl would not take it."""
        return self._drops

    @property
    def counters(self) -> Mapping[str, float]:
        """`lsl_pushed`: samples of both streams; `lsl_listened`: how many of the two anybody listens to."""
        listened = sum(bool(outlet.have_consumers()) for outlet in self._outlets.values())
        return {**self._counters, "lsl_listened": listened}

    async def open(self) -> None:
        """Makes both outlets. Raises UserError where liblsl is not there."""
        await finish_in_thread(self._make_outlets)
        name = self._description.name
        note(
            log, logging.INFO, "connected", f"publishes over LSL as '{name}' and '{name} settled'", what="lsl"
        )

    def offer(self, estimate: Estimate) -> None:
        """Pushes an estimate, with the time of its frame's capture."""
        outlet = self._outlets.get(estimate.settled)
        if outlet is None or self._clock is None:
            return
        try:
            outlet.push_sample(sample(estimate), self._clock.stamp(estimate))
        except (RuntimeError, ValueError):
            self._drops["lsl_failed"] += 1
        else:
            self._counters["lsl_pushed"] += 1

    async def close(self) -> None:
        """Gives listeners a moment to take the last samples, and ends both streams."""
        outlets, self._outlets = list(self._outlets.values()), {}
        if any(outlet.have_consumers() for outlet in outlets):
            await asyncio.sleep(LINGER_S)
        await asyncio.to_thread(outlets.clear)

    def _make_outlets(self) -> None:
        pylsl = load_pylsl()
        self._clock = CaptureClock(pylsl.local_clock, self._wall_clock)
        for settled in (False, True):
            self._outlets[settled] = make_outlet(pylsl, self._description, settled=settled)
