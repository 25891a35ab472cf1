"""Markers from LSL: every stream of type `Markers` that can be seen is listened to for as long as it is there."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from models.errors import UserError
from stream.flow.channel import Channel
from stream.logs import note
from stream.lsl.clock import clock_offset
from stream.lsl.library import load_pylsl
from stream.messages import MOST_MARKER_CHARACTERS
from stream.sinks.base import QuietSink

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stream.controls import Controls

log = logging.getLogger(__name__)

MARKERS: Final = "Markers"
LOOK_EVERY_S: Final = 0.5
FORGET_AFTER_S: Final = 5.0
MOST_STREAMS: Final = 16
WAITING_MARKERS: Final = 64
CALL_TIMEOUT_S: Final = 5.0
PULL_TIMEOUT_S: Final = 0.25
CLOSING_S: Final = 3.0
TAKEN_AT_ONCE: Final = 16


@dataclass(frozen=True)
class HeardMarker:
    """A marker as it came: its channels as one line of text, and its time in seconds on this machine's LSL clock."""

    text: str
    at_lsl_s: float


class LslMarkers(QuietSink):
    """Listens to marker streams as they come and go, and marks what they say at the time that they say it was.

    One thread looks for streams and one listens to each, at most `MOST_STREAMS`; they wait where too many markers
    come at once. A text is made one line of at most `MOST_MARKER_CHARACTERS`. It takes no estimates: it is a sink so
    that it lives as long as they do.
    """

    name = "lsl_markers"

    def __init__(self, controls: Controls, *, wall_clock: Callable[[], float] = time.time) -> None:
        self._controls = controls
        self._wall_clock = wall_clock
        self._pylsl: Any = None
        self._heard: Channel[HeardMarker] = Channel(WAITING_MARKERS)
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._threads: dict[str, threading.Thread] = {}
        self._watcher = threading.Thread(target=self._look_for_streams, name="lsl markers", daemon=True)
        self._counts: Counter[str] = Counter()
        self._told_of_too_many = False

    @property
    def drops(self) -> Mapping[str, int]:
        """`lsl_markers_refused`: without a text, or before the run had begun."""
        return {"lsl_markers_refused": self._counts["refused"]}

    @property
    def counters(self) -> Mapping[str, float]:
        """Markers taken and cut short, streams listened to, and markers that wait."""
        return {
            "lsl_markers": self._counts["taken"],
            "lsl_markers_cut": self._counts["cut"],
            "lsl_marker_streams": len(self._threads),
            "lsl_markers_waiting": len(self._heard),
        }

    async def open(self) -> None:
        """Begins to look. Raises UserError where liblsl is not there."""
        self._pylsl = await asyncio.to_thread(load_pylsl)
        self._watcher.start()

    async def run(self) -> None:
        """Marks what is heard, until cancelled."""
        while True:
            for heard in await self._heard.take_some(TAKEN_AT_ONCE):
                self._mark(heard)

    async def close(self) -> None:
        """Ends the threads, as far as liblsl lets them go in a few seconds."""
        self._ending.set()
        self._heard.abandon()
        await asyncio.to_thread(self._join)

    def _mark(self, heard: HeardMarker) -> None:
        text = heard.text
        if len(text) > MOST_MARKER_CHARACTERS:
            text = text[:MOST_MARKER_CHARACTERS]
            self._counts["cut"] += 1
        at_s = heard.at_lsl_s - clock_offset(self._pylsl.local_clock, self._wall_clock)
        try:
            self._controls.mark(text, "lsl", at_s)
        except UserError:
            self._counts["refused"] += 1
        else:
            self._counts["taken"] += 1

    def _look_for_streams(self) -> None:
        """In a thread: starts one more for each stream that is new, or was lost and is there again."""
        resolver = self._pylsl.ContinuousResolver("type", MARKERS, forget_after=FORGET_AFTER_S)
        while not self._ending.wait(LOOK_EVERY_S):
            for info in resolver.results():
                with self._lock:
                    is_new = info.uid() not in self._threads
                    has_room = len(self._threads) < MOST_STREAMS
                if is_new and has_room:
                    self._begin_to_listen(info)
                elif is_new and not self._told_of_too_many:
                    self._told_of_too_many = True
                    message = f"more than {MOST_STREAMS} marker streams: '{info.name()}' is not listened to"
                    note(log, logging.WARNING, "refused", message, what="markers", stream=info.name())

    def _begin_to_listen(self, info: Any) -> None:
        thread = threading.Thread(
            target=self._listen, args=(info,), name=f"lsl markers {info.name()}", daemon=True
        )
        with self._lock:
            self._threads[info.uid()] = thread
        thread.start()

    def _listen(self, info: Any) -> None:
        """In a thread of its own: one stream, until it is lost or all ends."""
        pylsl = self._pylsl
        uid, stream = info.uid(), f"'{info.name()}' of {info.hostname()}"
        heard_any = False
        try:
            # One that comes again has another uid: it is found, not recovered, so that nothing waits for it here.
            inlet = pylsl.StreamInlet(info, recover=False, processing_flags=pylsl.proc_clocksync)
            inlet.open_stream(timeout=CALL_TIMEOUT_S)
            # The first comparison of clocks takes a while: before the first marker, not after it.
            inlet.time_correction(timeout=CALL_TIMEOUT_S)
            heard_any = True
            message = f"listens to the markers {stream}"
            note(log, logging.INFO, "connected", message, what="markers", stream=info.name())
            self._pull(inlet)
        except RuntimeError as error:  # what pylsl raises where a stream is lost or does not answer
            if heard_any:
                message = f"the markers {stream} are gone: {error}"
                note(log, logging.WARNING, "lost", message, what="markers", stream=info.name())
            self._ending.wait(LOOK_EVERY_S)
        finally:
            with self._lock:
                del self._threads[uid]

    def _pull(self, inlet: Any) -> None:
        while not self._ending.is_set():
            try:
                values, at_lsl_s = inlet.pull_sample(timeout=PULL_TIMEOUT_S)
            except UnicodeDecodeError:
                self._counts["refused"] += 1
                continue
            if values is not None and not self._heard.put_from_thread(HeardMarker(as_line(values), at_lsl_s)):
                return

    def _join(self) -> None:
        deadline_s = time.monotonic() + CLOSING_S
        with self._lock:
            threads = [self._watcher, *self._threads.values()]
        for thread in threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline_s - time.monotonic()))


def as_line(values: list[Any]) -> str:
    """A sample's channels as one line of printable text; empty where there is none."""
    words = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
    text = "".join(character if character.isprintable() else " " for character in " ".join(words))
    return " ".join(text.split())
