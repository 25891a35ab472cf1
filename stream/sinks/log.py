"""A sink that logs what becomes of a run: a line for each thing a person acts on (`stream.logs`)."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

from stream.flow.ladder import FULL
from stream.logs import note
from stream.sinks.base import QuietSink

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from stream.messages import Marker, Phase, Status

log = logging.getLogger(__name__)

QUIET_S: Final = 60.0
"""After so long without a drop of one cause, the next one is said again."""

ROUTINE_DROPS: Final = frozenset({"camera_surplus"})
"""A camera quicker than the ticks: nobody has to do anything about it."""

PATIENCE_S: Final = 2.0
"""An input that is waited for is no loss before that: on a busy machine a camera may pause for a moment."""


class LogSink(QuietSink):
    """Logs what changes from one status to the next, and markers.

    Lines name the `run`, where it has a name: several may run in one process. `refused` are lines on what was asked
    for and cannot be had. `clock` gives seconds.
    """

    name = "log"

    def __init__(
        self,
        run: str | None = None,
        *,
        refused: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run = run
        self._refused = tuple(refused)
        self._clock = clock
        self._last: Status | None = None
        self._away: set[str] = set()
        self._waiting_since: dict[str, float] = {}
        self._dropped_at: dict[str, float] = {}

    def offer_marker(self, marker: Marker) -> None:
        """A marked moment, but not its text: that is somebody's, and leaves by the ways that were asked for."""
        at = {} if marker.time_s is None else {"time_s": round(marker.time_s, 3)}
        self._note(logging.INFO, "marker", f"marked a moment, by {marker.origin}", origin=marker.origin, **at)

    def offer_status(self, status: Status) -> None:
        """What is new in it."""
        last, self._last = self._last, status
        if last is None:
            self._begin(status)
        elif status.phase != last.phase:
            self._note_phase(status, last.phase)
        self._note_inputs(status, last)
        before = None if last is None else last.degraded
        # A run that is to stay on a rung was told so by whoever started it.
        if status.degraded != before and status.budget == "auto":
            rung = status.degraded or FULL.name
            message = f"serves at {rung} now, after {before or FULL.name}"
            self._note(logging.WARNING, "ladder", message, rung=rung)
        self._note_drops(status, {} if last is None else last.drops)

    def _note(self, level: int, event: str, message: str, **fields: object) -> None:
        if self._run is None:
            note(log, level, event, message, **fields)
        else:
            note(log, level, event, f"{self._run}: {message}", run=self._run, **fields)

    def _begin(self, status: Status) -> None:
        self._note(
            logging.INFO,
            "started",
            f"runs {status.source} with the bundle {status.bundle.name}, computed by {status.accelerator}",
            source=status.source,
            bundle=status.bundle.name,
            accelerator=status.accelerator,
            version=status.version,
        )
        for line in status.notes:
            refused = line in self._refused
            self._note(logging.INFO, "refused" if refused else "note", line)
        for name, each in status.inputs.items():
            if each.health == "off" and each.way_out:
                message = f"{name} is off: {each.detail} ({each.way_out})"
                self._note(logging.INFO, "refused", message, part=name, way_out=each.way_out)

    def _note_phase(self, status: Status, before: Phase) -> None:
        if status.phase == "stopped":
            message = f"stopped after {status.frames} frames, of which {status.settled} settled"
            self._note(logging.INFO, "stopped", message, frames=status.frames, settled=status.settled)
        elif status.phase == "paused":
            self._note(logging.INFO, "paused", "paused")
        elif before == "paused":
            self._note(logging.INFO, "resumed", "goes on after a pause")

    def _note_inputs(self, status: Status, last: Status | None) -> None:
        """Those that gave something and stopped, and those that came back."""
        now_s = self._clock()
        for name, each in status.inputs.items():
            if each.health != "waiting":
                self._waiting_since.pop(name, None)
            if each.health == "ok" and name in self._away:
                self._away.discard(name)
                message = f"{name} is back: {each.detail}"
                self._note(logging.WARNING, "recovered", message, what=name, detail=each.detail)
            elif last is None or name in self._away:
                continue
            elif each.health == "lost" or (each.health == "waiting" and self._has_waited(name, now_s)):
                self._away.add(name)
                fields = {"what": name, "detail": each.detail, "way_out": each.way_out}
                detail = f": {each.detail}" if each.detail else ""
                way_out = f" ({each.way_out})" if each.way_out else ""
                self._note(logging.WARNING, "lost", f"{name} gives nothing{detail}{way_out}", **fields)

    def _has_waited(self, name: str, now_s: float) -> bool:
        return now_s - self._waiting_since.setdefault(name, now_s) >= PATIENCE_S

    def _note_drops(self, status: Status, before: Mapping[str, int]) -> None:
        now_s = self._clock()
        for cause, number in status.drops.items():
            if number <= before.get(cause, 0) or cause in ROUTINE_DROPS:
                continue
            quiet_s = now_s - self._dropped_at.get(cause, float("-inf"))
            self._dropped_at[cause] = now_s
            if quiet_s >= QUIET_S:
                message = f"begins to drop ({cause}, {number} so far)"
                self._note(logging.WARNING, "drops", message, cause=cause, number=number)
