"""What live inputs captured, between the threads that read them and the ticks that use it."""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from stream.sources.events import SAMPLE_RATE, InputChange, InputName

if TYPE_CHECKING:
    import numpy as np
    from av.video.frame import VideoFrame as Picture
    from numpy.typing import NDArray

    from stream.messages import Health, InputStatus

PICTURES: Final = 4
"""Pictures kept for the tick that is due: it takes the newest, older ones are surplus."""

SOUND_S: Final = 10.0
"""Sound kept for a consumer that is held up."""

MOST_CHANGES: Final = 64
"""Changes of health kept for a consumer that is held up; of older ones the newest state is what matters."""


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


class LiveCaptures:
    """What readers captured and the tick has not used yet: the newest pictures, sound, and each input's health.

    Not a queue (`stream.flow.channel` is one): each kind is kept and dropped by a rule of its own. Of pictures the
    tick takes the newest; sound is taken whole; of health the newest state of each input holds, and its changes are
    told in order. Written by the readers' threads and read by the source's, any of which may wait on `changed`,
    which is the lock of all of it too. Bounded, every drop counted by cause.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.pictures: deque[CapturedPicture] = deque()
        self.sounds: deque[CapturedSound] = deque()
        self.changes: deque[InputChange] = deque(maxlen=MOST_CHANGES)
        self.status: dict[InputName, InputStatus] = {}
        self.counters: Counter[str] = Counter()
        self.drift_ppm: dict[InputName, float] = {}
        self._sound_samples = 0
        self._newest_s = float("inf")
        self._period_s = 0.0

    def put_picture(self, capture: CapturedPicture) -> None:
        """Adds a picture; the oldest is dropped where there is no room."""
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
        """Adds sound; the oldest is dropped where there is no room."""
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

    def set_status(self, name: InputName, status: InputStatus) -> None:
        """Notes an input's health, and that it changed where it did."""
        with self.changed:
            if self.status.get(name) != status:
                self.status[name] = status
                if len(self.changes) == MOST_CHANGES:
                    self.counters["input_changes_dropped"] += 1
                self.changes.append(InputChange(name, status))
            self.changed.notify_all()

    def take_changes(self) -> list[InputChange]:
        """The changes of health since this was last called."""
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
