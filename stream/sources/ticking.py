"""Steady ticks over what is captured as it happens: the newest picture at each tick, and sound beside it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

import numpy as np

from models.errors import SetupError
from stream.messages import InputStatus
from stream.sources.device_clock import fit_sound, newest_at
from stream.sources.devices import READ_TIMEOUT_S
from stream.sources.events import (
    SAMPLE_RATE,
    AudioChunk,
    InputName,
    NoPicture,
    SourceEvent,
    SourceInfo,
    VideoFrame,
)
from stream.sources.scaling import MOST_LONG_SIDE, fitted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from stream.sources.captures import CapturedPicture, CapturedSound, LiveCaptures
    from stream.sources.reader import Reader

STALE_PICTURE_S: Final = 0.5
"""A picture older than this is not shown again: the tick has none."""

STALE_SOUND_S: Final = 1.0
"""A microphone that gave nothing for this long is said to be waited for."""

SOUND_PATIENCE_S: Final = 0.05
"""How long a tick waits for sound captured up to it; what comes later still comes, after the frame."""

MOST_LATE_TICKS: Final = 3
"""Ticks by which a consumer may be late before the ones it missed are dropped."""

AT_TICK: Final = 0.25
"""In ticks: a picture captured this little after its tick counts as at it. (A camera at the tick's own rate would
otherwise fall on either side by chance.)
"""

PICTURE_PATIENCE: Final = 0.9
"""In ticks: how long after its tick a picture is waited for that is expected by then."""

LONGEST_WAIT_S: Final = 60.0
"""In one go; a longer wait is made of several."""


class TickingSource:
    """What inputs capture, on one axis that ticks at the rate of `info`.

    Each tick gives a `VideoFrame` with the newest picture captured at or before it, give or take a quarter of
    a tick (`repeated` where that is the last tick's; `captured_at` stays the picture's own), or `NoPicture`
    while the camera is away; both count in `index`. A consumer that is late loses ticks: `index` goes on,
    `time_s` leaps. Sound comes as it is captured and may end before the tick it comes with, by the
    microphone's delay beyond `SOUND_PATIENCE_S`.

    The first picture may take `first_picture_s` to come (infinity: as long as it takes). `readers` put what they
    read into `captures` while events are taken; whoever else does so needs none.

    `counters`: `camera_repeats`, `camera_surplus` (pictures superseded before their tick), `ticks_dropped`
    (consumer late), `ticks_without_picture`, `camera_losses`, `microphone_losses`, `camera_clock_jumps`,
    `microphone_clock_jumps`, `decode_errors`, `audio_gaps`, `audio_gap_samples`, `audio_overlap_samples`,
    `audio_before_video_samples`, `audio_stretched_samples` (added or taken to follow the clock),
    `microphone_overflow_samples`, `input_changes_dropped`, `inputs_not_closed`.

    `measures`: `camera_drift_ppm`, `microphone_drift_ppm`.
    """

    live: Final = True

    def __init__(
        self,
        info: SourceInfo,
        captures: LiveCaptures,
        readers: Sequence[Reader] = (),
        *,
        first_picture_s: float = float("inf"),
    ) -> None:
        self._info = info
        self._captures = captures
        self._readers = tuple(readers)
        self._tick_rate = info.frame_rate
        self._first_picture_s = first_picture_s
        self._closed = threading.Event()
        self._next_sample: int | None = None
        self._started = False
        # The status of inputs that said they were well and then gave nothing, as it was before.
        self._status_before_silence: dict[InputName, InputStatus] = {}

    @property
    def info(self) -> SourceInfo:
        """What it is; the picture's size is the device's, at opening."""
        return self._info

    @property
    def counters(self) -> Mapping[str, int]:
        """Drops and repairs so far, by cause; absent names are 0."""
        with self._captures.changed:
            return dict(self._captures.counters)

    @property
    def measures(self) -> Mapping[str, float]:
        """The inputs' measured clock drift, parts per million against this machine's clock."""
        return {f"{name}_drift_ppm": ppm for name, ppm in dict(self._captures.drift_ppm).items()}

    @property
    def inputs(self) -> Mapping[str, InputStatus]:
        """Each input's health, what it gives, and what was requested where that differs."""
        with self._captures.changed:
            return {str(name): status for name, status in self._captures.status.items()}

    def close(self) -> None:
        """Ends `events()` at once; it then waits for the devices to be closed. Safe from any thread."""
        self._closed.set()
        with self._captures.changed:
            self._captures.changed.notify_all()
        if not self._started:
            self._stop_readers()

    def events(self) -> Iterator[SourceEvent]:
        """Ticks, sound and changes of health as they happen, once: a live source cannot be read again."""
        if self._started:
            raise RuntimeError("a live source is read once")
        self._started = True
        try:
            for reader in self._readers:
                reader.start()
            yield from self._ticks()
        finally:
            self._stop_readers()

    def _stop_readers(self) -> None:
        for reader in self._readers:
            reader.stop()
        deadline_s = time.monotonic() + READ_TIMEOUT_S + 1.0
        for reader in self._readers:
            if not reader.join(max(0.0, deadline_s - time.monotonic())):
                self._captures.count("inputs_not_closed")

    def _ticks(self) -> Iterator[SourceEvent]:
        zero_s = self._wait_for_first_picture()
        if zero_s is None:
            yield from self._captures.take_changes()
            return
        shown: CapturedPicture | None = None
        rgb: NDArray[np.uint8] | None = None
        tick = index = 0
        while not self._closed.is_set():
            due_s = zero_s + tick / self._tick_rate
            yield from self._sound_until(due_s, zero_s)
            if self._closed.is_set():
                return
            capture, surplus = self._take_newest_picture(due_s)
            self._captures.count("camera_surplus", surplus)
            self._watch_for_silence(due_s, capture or shown, zero_s)
            yield from self._captures.take_changes()
            time_s = tick / self._tick_rate
            if capture is not None:
                shown, rgb = capture, self._to_rgb(capture)
            if shown is None or rgb is None or due_s - shown.at_s > STALE_PICTURE_S:
                if self._captures.health("camera") == "ended":
                    return
                self._captures.count("ticks_without_picture")
                yield NoPicture(index, time_s, _wall_time(due_s))
            else:
                if capture is None:
                    if self._captures.health("camera") == "ended":
                        return
                    self._captures.count("camera_repeats")
                yield VideoFrame(index, time_s, _wall_time(shown.at_s), rgb, repeated=capture is None)
            index += 1
            tick += 1
            late = int((time.monotonic() - zero_s) * self._tick_rate) - tick
            if late > MOST_LATE_TICKS:
                self._captures.count("ticks_dropped", late)
                tick += late

    def _wait_for_first_picture(self) -> float | None:
        """The first picture's capture time: zero of the axis. None where the source was closed or ended
        before.
        """
        deadline_s = time.monotonic() + self._first_picture_s
        with self._captures.changed:
            while not self._captures.pictures:
                if self._closed.is_set() or self._captures.health("camera") == "ended":
                    return None
                left_s = deadline_s - time.monotonic()
                if left_s <= 0:
                    status = self._captures.status["camera"]
                    raise SetupError(
                        f"{self.info.name} gave no picture for {self._first_picture_s:g} s"
                        f"{': ' + status.detail if status.detail else ''}; is it in use, or covered?"
                    )
                self._captures.changed.wait(min(left_s, LONGEST_WAIT_S))
            return self._captures.pictures[0].at_s

    def _sound_until(self, due_s: float, zero_s: float) -> Iterator[AudioChunk]:
        """Hands on sound until the tick is due and its sound is there, or patience ends."""
        while not self._closed.is_set():
            for sound in self._captures.take_sounds():
                yield from self._place_on_axis(sound, zero_s)
            now_s = time.monotonic()
            until_s = due_s
            if (
                self._captures.health("microphone") == "ok"
                and (self._next_sample or 0) < (due_s - zero_s) * SAMPLE_RATE
            ):
                until_s = due_s + SOUND_PATIENCE_S
            if self._captures.next_picture_s() <= due_s + AT_TICK / self._tick_rate:
                until_s = max(until_s, due_s + PICTURE_PATIENCE / self._tick_rate)
            if now_s >= until_s:
                return
            with self._captures.changed:
                if not self._captures.sounds and not self._closed.is_set():
                    # Woken by whatever comes, so that what ends the wait is seen at once.
                    self._captures.changed.wait(until_s - now_s)

    def _take_newest_picture(self, due_s: float) -> tuple[CapturedPicture | None, int]:
        """The newest picture for the tick due then, if there is any, and how many older ones it supersedes."""
        with self._captures.changed:
            pictures = self._captures.pictures
            at = newest_at([p.at_s for p in pictures], due_s + AT_TICK / self._tick_rate)
            if at is None:
                return None, 0
            for _ in range(at):
                pictures.popleft()
            return pictures.popleft(), at

    def _watch_for_silence(self, due_s: float, capture: CapturedPicture | None, zero_s: float) -> None:
        """Sets an input that says it is well but gives nothing to `waiting`, and back when it gives again."""
        heard_s = zero_s + (self._next_sample or 0) / SAMPLE_RATE
        newest_s = max((p.at_s for p in list(self._captures.pictures)), default=0.0)
        seen_s = max(newest_s, capture.at_s if capture else 0.0)
        since: dict[InputName, tuple[float, float]] = {
            "camera": (due_s - seen_s, STALE_PICTURE_S),
            "microphone": (due_s - heard_s, STALE_SOUND_S),
        }
        for name, (quiet_s, stale_s) in since.items():
            status = self._captures.status[name]
            if status.health == "ok" and quiet_s > stale_s:
                self._status_before_silence[name] = status
                detail = f"{status.detail}; nothing came for {stale_s:g} s"
                self._captures.set_status(
                    name, InputStatus("waiting", detail, "check that it is connected and not in use")
                )
            elif status.health == "waiting" and quiet_s <= stale_s and name in self._status_before_silence:
                self._captures.set_status(name, self._status_before_silence.pop(name))

    def _place_on_axis(self, sound: CapturedSound, zero_s: float) -> Iterator[AudioChunk]:
        samples = sound.samples
        fit = fit_sound(self._next_sample, (sound.at_s - zero_s) * SAMPLE_RATE, len(samples), SAMPLE_RATE)
        if fit.gap:
            self._captures.count("audio_gaps")
            self._captures.count("audio_gap_samples", fit.gap)
        if fit.skip:
            cause = "audio_before_video_samples" if self._next_sample is None else "audio_overlap_samples"
            self._captures.count(cause, fit.skip)
            samples = samples[fit.skip :]
        if fit.stretch:
            self._captures.count("audio_stretched_samples")
            length = len(samples)
            places = np.linspace(0, length - 1, length + fit.stretch)
            samples = np.interp(places, np.arange(length), samples).astype(np.float32)
        if len(samples):
            self._next_sample = fit.start + len(samples)
            yield AudioChunk(fit.start, samples)

    def _to_rgb(self, capture: CapturedPicture) -> NDArray[np.uint8]:
        picture = capture.picture
        width, height = fitted(picture.width, picture.height, MOST_LONG_SIDE)
        rgb = picture.reformat(width=width, height=height, format="rgb24").to_ndarray()
        return np.ascontiguousarray(rgb, dtype=np.uint8)


def _wall_time(at_s: float) -> float:
    """A time on the arrival (monotonic) clock as seconds since the epoch."""
    return time.time() - (time.monotonic() - at_s)
