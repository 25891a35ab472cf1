"""One live input read in its own thread: opened, read, lost, opened again; captures mapped to one clock."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.video.frame import VideoFrame as Picture
from numpy.typing import NDArray

from models.errors import UserError
from stream.messages import Health, InputStatus
from stream.sources.device_clock import Backoff, ClockMap, map_stamp, start_clock
from stream.sources.devices import Address
from stream.sources.events import SAMPLE_RATE, InputChange, InputName
from stream.sources.scaling import MOST_LONG_SIDE, decode_small

Opener = Callable[[Address], Any]

# Pictures kept for the tick that is due: it takes the newest, older ones are surplus.
PICTURES: Final = 4

# PulseAudio's word on its delay is off by up to 0.3 s for about a second after it is opened, though no sample
# is lost: until then sound that is stamped by the wall clock goes by counting its samples.
SETTLE_S: Final = 2.0

# Sound kept for a consumer that is held up, and the least piece handed on.
SOUND_S: Final = 10.0
PIECE_SAMPLES: Final = 160


@dataclass(frozen=True, eq=False)
class CapturedPicture:
    """A picture as the device gave it, captured at `at_s` on the arrival clock."""

    at_s: float
    picture: Picture


@dataclass(frozen=True, eq=False)
class CapturedSound:
    """16 kHz mono float32 whose first sample was captured at `at_s` on the arrival clock."""

    at_s: float
    samples: NDArray[np.float32]


class Inbox:
    """Where readers leave what they captured; bounded, every drop counted by cause."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.pictures: deque[CapturedPicture] = deque()
        self.sounds: deque[CapturedSound] = deque()
        self.changes: deque[InputChange] = deque(maxlen=64)
        self.status: dict[InputName, InputStatus] = {}
        self.counters: Counter[str] = Counter()
        self.drift_ppm: dict[InputName, float] = {}
        self._sound_samples = 0
        self._newest_s = float("inf")
        self._period_s = 0.0

    def put_picture(self, capture: CapturedPicture) -> None:
        """Leaves a picture; the oldest goes where there is no room."""
        with self.changed:
            step_s = capture.at_s - self._newest_s
            if step_s > 0:
                self._period_s += 0.2 * (step_s - self._period_s) if self._period_s else step_s
            self._newest_s = capture.at_s
            self.pictures.append(capture)
            while len(self.pictures) > PICTURES:
                self.pictures.popleft()
                self.counters["camera_surplus"] += 1
            self.changed.notify_all()

    def next_picture_s(self) -> float:
        """When the next picture is likely captured: the newest's time and the mean period of late. Infinite
        before the second picture and while the camera is not well.
        """
        with self.changed:
            if not self._period_s or self.health("camera") != "ok":
                return float("inf")
            return self._newest_s + self._period_s

    def put_sound(self, sound: CapturedSound) -> None:
        """Leaves sound; the oldest goes where there is no room."""
        with self.changed:
            self.sounds.append(sound)
            self._sound_samples += len(sound.samples)
            while self._sound_samples > SOUND_S * SAMPLE_RATE:
                lost = len(self.sounds.popleft().samples)
                self._sound_samples -= lost
                self.counters["microphone_overflow_samples"] += lost
            self.changed.notify_all()

    def take_sounds(self) -> list[CapturedSound]:
        """All sound that is there."""
        with self.changed:
            taken = list(self.sounds)
            self.sounds.clear()
            self._sound_samples = 0
            return taken

    def turn(self, name: InputName, status: InputStatus) -> None:
        """Notes an input's health, and that it turned where it did."""
        with self.changed:
            if self.status.get(name) != status:
                self.status[name] = status
                self.changes.append(InputChange(name, status))
            self.changed.notify_all()

    def take_changes(self) -> list[InputChange]:
        """What turned since this was last asked."""
        with self.changed:
            taken = list(self.changes)
            self.changes.clear()
            return taken

    def count(self, name: str, amount: int = 1) -> None:
        """Adds to a counter, from any thread."""
        with self.changed:
            self.counters[name] += amount

    def health(self, name: InputName) -> Health:
        """An input's health; `off` where there is no such input."""
        status = self.status.get(name)
        return "off" if status is None else status.health


class Reader:
    """Reads one container for a picture, sound, or both, until told to stop.

    `container` is already open. When it fails, or ends though it should not, it is closed, the inputs turn
    `lost`, and it is opened again after a wait that grows (`stream.sources.device_clock.Backoff`); the axis goes on.
    """

    def __init__(
        self,
        address: Address,
        container: Any,
        opener: Opener,
        inbox: Inbox,
        inputs: tuple[InputName, ...],
        detail: str,
        backoff: Backoff,
    ) -> None:
        self.address = address
        self._container, self._opener, self._inbox = container, opener, inbox
        self._inputs, self._detail, self._backoff = inputs, detail, backoff
        self._draw = random.Random()
        self._stopping = threading.Event()
        self._last_mapped_s = float("-inf")
        self._thread = threading.Thread(target=self._work, name=address.label, daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Asks it to end at its next packet."""
        self._stopping.set()

    def join(self, timeout_s: float) -> bool:
        """Waits for it; False where it still sits in a read (it closes its device when that returns)."""
        if self._thread.ident is None:
            self._container.close()
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _work(self) -> None:
        backoff, container = self._backoff, self._container
        while True:
            reason = "its stream ended"
            came = False
            try:
                if container is None:
                    container = self._opener(self.address)
                for _ in self._read(container):
                    if not came:
                        came, backoff = True, self._backoff
                        self._turn("ok", self._detail)
            except (av.FFmpegError, OSError, UserError, ValueError) as error:
                reason = getattr(error, "strerror", None) or str(error)
            finally:
                if container is not None:
                    container.close()
                    container = None
            if self._stopping.is_set():
                return
            if reason == "its stream ended" and not self.address.endless:
                self._turn("ended", self._detail)
                return
            backoff, wait_s = backoff.failed(self._draw)
            self._turn("lost", f"{self.address.label}: {reason}", f"trying again after {wait_s:.1f} s")
            for name in self._inputs:
                self._inbox.count(f"{name}_losses")
            if self._stopping.wait(wait_s):
                return

    def _turn(self, health: Health, detail: str, way_out: str = "") -> None:
        for name in self._inputs:
            self._inbox.turn(name, InputStatus(health, detail, way_out))

    def _read(self, container: Any) -> Any:
        """Reads to the end or a failure, yielding after each thing captured."""
        streams = []
        if "camera" in self._inputs:
            decode_small(container.streams.video[0], MOST_LONG_SIDE)
            streams.append(container.streams.video[0])
        if "microphone" in self._inputs:
            streams.append(container.streams.audio[0])
        leader = streams[0].index
        clock: ClockMap | None = None
        sound = _Resampling()
        began_s = time.monotonic()
        counted_s: float | None = 0.0 if self._inputs == ("microphone",) else None
        for packet in container.demux(streams):
            if self._stopping.is_set():
                return
            try:
                frames = packet.decode()
            except EOFError:
                continue
            except av.FFmpegError:
                self._inbox.count("decode_errors")
                continue
            for frame in frames:
                arrival_s = time.monotonic()
                stamp_s = None if frame.pts is None else float(frame.pts * frame.time_base)
                leads = packet.stream.index == leader
                if leads:
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
                    clock, at_s = map_stamp(clock, stamp_s, arrival_s)
                    self._note(clock, before)
                elif clock is None or clock.offset_s is None or stamp_s is None:
                    # Sound beside a picture goes by the picture's clock; before that there is no axis.
                    continue
                else:
                    at_s = min(stamp_s + clock.offset_s, arrival_s)
                if isinstance(frame, AudioFrame):
                    for piece in sound.add(frame, at_s):
                        self._inbox.put_sound(piece)
                else:
                    self._inbox.put_picture(CapturedPicture(at_s, frame))
                yield

    def _note(self, clock: ClockMap, before: ClockMap) -> None:
        self._last_mapped_s = clock.last_mapped_s
        name = self._inputs[0]
        if clock.jumps > before.jumps or clock.steps > before.steps:
            self._inbox.count(f"{name}_clock_jumps")
        drift = clock.drift_ppm
        if drift is not None:
            self._inbox.drift_ppm[name] = drift


class _Resampling:
    """Decoded sound to 16 kHz mono pieces that know when they were captured."""

    def __init__(self) -> None:
        self._resampler: AudioResampler | None = None
        self._form: tuple[int, str, str] | None = None
        self._pending = 0.0
        self._held: list[NDArray[np.float32]] = []
        self._held_samples = 0

    def add(self, frame: AudioFrame, at_s: float) -> list[CapturedSound]:
        """What is ready: pieces of at least `PIECE_SAMPLES`."""
        form = (frame.sample_rate, frame.format.name, frame.layout.name)
        if self._resampler is None or form != self._form:
            # 16-bit for the reason that `stream.sources.resample.SoundRuns` gives.
            self._resampler = AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
            self._form, self._pending = form, 0.0
        # What is still in the resampler and in hand was captured before this frame.
        start_s = at_s - (self._pending + self._held_samples) / SAMPLE_RATE
        self._pending += frame.samples * SAMPLE_RATE / frame.sample_rate
        frame.pts = None
        for out in self._resampler.resample(frame):
            pcm = out.to_ndarray().reshape(-1).astype(np.float32) / np.float32(32768)
            self._pending -= len(pcm)
            self._held.append(pcm)
            self._held_samples += len(pcm)
        if self._held_samples < PIECE_SAMPLES:
            return []
        samples = np.concatenate(self._held)
        self._held, self._held_samples = [], 0
        return [CapturedSound(start_s, samples)]
