"""One live input read in its own thread: opened, read, lost, opened again; captures mapped to one clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any, Final

import av
from av.audio.frame import AudioFrame

from models.errors import UserError
from stream.messages import InputStatus
from stream.sources.captures import CapturedPicture, LiveCaptures
from stream.sources.decoding import decode_packet
from stream.sources.device_clock import ClockMap, start_clock, step_clock_map
from stream.sources.devices import Address
from stream.sources.resample import LiveSoundPieces
from stream.sources.scaling import MOST_LONG_SIDE, decode_small

if TYPE_CHECKING:
    from stream.flow.backoff import Backoff
    from stream.sources.events import InputName

Opener = Callable[[Address], Any]

SETTLE_S: Final = 2.0
"""How long sound that is stamped by the wall clock goes by counting its samples: the delay that PulseAudio reports is
off by up to 0.3 s for about a second after it is opened, though no sample is lost.
"""


class Reader:
    """Reads one container for a picture, sound, or both, until told to stop.

    `container` is already open. When it fails, or ends though it should not, it is closed, the inputs become
    `lost`, and it is opened again after a wait that grows (`stream.flow.backoff`); the axis goes on.
    """

    def __init__(
        self,
        address: Address,
        container: Any,
        opener: Opener,
        captures: LiveCaptures,
        inputs: tuple[InputName, ...],
        detail: str,
        backoff: Backoff,
    ) -> None:
        self.address = address
        self._container, self._opener, self._captures = container, opener, captures
        self._inputs, self._detail, self._backoff = inputs, detail, backoff
        self._random = Random()
        self._stopping = threading.Event()
        self._last_mapped_s = float("-inf")
        self._thread = threading.Thread(target=self._read_until_stopped, name=address.label, daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Asks the thread to end at its next packet."""
        self._stopping.set()

    def join(self, timeout_s: float) -> bool:
        """Waits for the thread. False where a read still blocks it; it closes its device when that returns."""
        if self._thread.ident is None:
            self._container.close()
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _read_until_stopped(self) -> None:
        """In the thread: reads, and opens again what was lost, until told to stop or the input has ended."""
        backoff, container = self._backoff, self._container
        while True:
            failure: Exception | None = None
            anything_came = False
            try:
                if container is None:
                    container = self._opener(self.address)
                for _ in self._read(container):
                    if not anything_came:
                        anything_came, backoff = True, backoff.reset()
                        self._set_status(InputStatus("ok", self._detail))
            except (av.FFmpegError, OSError, UserError, ValueError) as error:
                failure = error
            finally:
                if container is not None:
                    container.close()
                    container = None
            if self._stopping.is_set():
                return
            if failure is None and not self.address.endless:
                self._set_status(InputStatus("ended", self._detail))
                return
            backoff, wait_s = backoff.step(self._random)
            self._set_status(_lost_status(self.address.label, failure, wait_s))
            for name in self._inputs:
                self._captures.count(f"{name}_losses")
            if self._stopping.wait(wait_s):
                return

    def _set_status(self, status: InputStatus) -> None:
        for name in self._inputs:
            self._captures.set_status(name, status)

    def _read(self, container: Any) -> Iterator[None]:
        """Reads to the end or a failure, yielding after each thing captured."""
        streams = []
        if "camera" in self._inputs:
            decode_small(container.streams.video[0], MOST_LONG_SIDE)
            streams.append(container.streams.video[0])
        if "microphone" in self._inputs:
            streams.append(container.streams.audio[0])
        leading_index = streams[0].index
        clock: ClockMap | None = None
        sound = LiveSoundPieces()
        began_s = time.monotonic()
        counted_s: float | None = 0.0 if self._inputs == ("microphone",) else None
        for packet in container.demux(streams):
            if self._stopping.is_set():
                return
            frames = decode_packet(packet.decode)
            if frames is None:
                self._captures.count("decode_errors")
            for frame in frames or ():
                arrival_s = time.monotonic()
                stamp_s = None if frame.pts is None else float(frame.pts * frame.time_base)
                if packet.stream.index == leading_index:
                    fresh = start_clock(time.time() - arrival_s, stamp_s, arrival_s)
                    if counted_s is not None and isinstance(frame, AudioFrame):
                        if fresh.offset_s is not None and arrival_s - began_s < SETTLE_S:
                            fresh, stamp_s = ClockMap(), counted_s
                            counted_s += frame.samples / frame.sample_rate
                        else:
                            clock = counted_s = None
                    if clock is None:
                        clock = replace(fresh, last_mapped_s=self._last_mapped_s)
                    before = clock
                    clock, at_s = step_clock_map(clock, stamp_s, arrival_s)
                    self._note_clock(clock, before)
                elif clock is None or clock.offset_s is None or stamp_s is None:
                    # Sound beside a picture goes by the picture's clock; before that there is no axis.
                    continue
                else:
                    at_s = min(stamp_s + clock.offset_s, arrival_s)
                if isinstance(frame, AudioFrame):
                    for piece in sound.step(frame, at_s):
                        self._captures.put_sound(piece)
                else:
                    self._captures.put_picture(CapturedPicture(at_s, frame))
                yield

    def _note_clock(self, clock: ClockMap, before: ClockMap) -> None:
        self._last_mapped_s = clock.last_mapped_s
        name = self._inputs[0]
        if clock.jumps > before.jumps or clock.steps > before.steps:
            self._captures.count(f"{name}_clock_jumps")
        drift = clock.drift_ppm
        if drift is not None:
            self._captures.drift_ppm[name] = drift


def _lost_status(label: str, failure: Exception | None, wait_s: float) -> InputStatus:
    """The status of a lost input: by a failure, or (None) because its stream ended. Open again after `wait_s`."""
    way_out = f"trying again after {wait_s:.1f} s"
    if failure is None:
        return InputStatus("lost", f"{label}: its stream ended", way_out)
    if isinstance(failure, UserError):
        others = f"; {failure.way_out}" if failure.way_out else ""
        return InputStatus("lost", failure.problem, way_out + others)
    reason = getattr(failure, "strerror", None) or str(failure)
    return InputStatus("lost", f"{label}: {reason}", way_out)
