"""`open_session`: frames and sound that a program pushes, and estimates that it takes."""

from __future__ import annotations

import math
import threading
import time
import weakref
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from affectstream.background import BackgroundRun
from affectstream.options import RunOptions, RunPlan, plan_run
from models.errors import AffectError, UserError
from stream.build import trained_frame_rate
from stream.sinks.handover import Ended, Handover, Kind
from stream.sources.events import SAMPLE_RATE
from stream.sources.pushed import Pushed, PushedLive, PushedRecording

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from types import TracebackType
    from typing import Self, Unpack

    from numpy.typing import NDArray

    from stream.messages import Estimate, Status

NOBODY_TAKES_S: Final = 5.0
"""How long a push may wait for room that only taking estimates would make."""


def open_session(
    *,
    live: bool = True,
    sound: bool = True,
    frame_rate: float | None = None,
    kind: Kind = "all",
    name: str = "session",
    **options: Unpack[RunOptions],
) -> Session:
    """A session that a program feeds with numpy arrays: a robot, a game, a browser's back end.

        with affectstream.open_session() as session:
            for image, sound, time_s in robot:
                session.push_frame(image, time_s)
                session.push_audio(sound, time_s)
                for estimate in session.take():
                    robot.feel(estimate.value)

    `live`: pushed as it happens. Estimates come at the bundle's frame rate, of the newest picture, as from a camera;
    nothing waits, and what the machine has no time for is dropped and counted. Not `live`: a recording of your own.
    Every frame counts, at its own time, and a push waits for room; `frame_rate` (default: the bundle's) says how many
    frames a second there are on average. `sound`: sound will be pushed too. `kind` leaves out provisional or settled
    estimates. `name` is what status calls it. Blocks while everything is loaded. To share that between sessions, give
    each the same `bundle=affectstream.load_bundle()`.

    Raises UserError for what a user can mend.
    """
    plan = plan_run(name, "fast", options)
    rate = frame_rate or trained_frame_rate(plan.input_options, plan.shared)
    if not (math.isfinite(rate) and rate > 0):
        raise UserError(f"a frame rate of {frame_rate} cannot be: give frames a second, such as 30")
    if live and frame_rate is not None:
        raise UserError(
            "a live session ticks at its bundle's frame rate: leave frame_rate out, or live=False"
        )
    if live:
        return Session(PushedLive(tick_rate=rate, sound=sound, name=name), plan, kind)
    return Session(PushedRecording(frame_rate=rate, sound=sound, name=name), plan, kind)


class Session:
    """An open session. Push from one thread at a time, and take estimates from it or from another.

    `with` closes it; so does its end of life. Looping over it, with `for` or `async for`, waits for estimates until
    `finish` or `close`.
    """

    def __init__(self, source: PushedLive | PushedRecording, plan: RunPlan, kind: Kind) -> None:
        self._source: Pushed = source
        self._recording = source if isinstance(source, PushedRecording) else None
        self._sound = source.info.has_audio
        self._handover = Handover(kind)
        self._looping: list[threading.Thread] = []
        """The threads that loop over it."""
        self._finished = False
        self._background = BackgroundRun(plan, [self._handover], source=source, on_end=self._handover.end)
        self._finalizer = weakref.finalize(self, self._background.let_go)
        self._background.start()
        try:
            self._background.wait_until_opened()
        except BaseException:
            self.close()
            raise

    @property
    def status(self) -> Status | None:
        """How the session stands, at most a second old: inputs, drops, latency, notes."""
        return self._handover.status

    @property
    def first_frame_s(self) -> float | None:
        """The first frame's `time_s` on your clock, from which estimates count theirs; None before it."""
        return self._source.first_frame_s

    def push_frame(self, image: NDArray[np.uint8], time_s: float) -> None:
        """A picture: uint8 (height, width, 3), RGB, seen at `time_s` seconds on a clock of yours. It is copied.

        Raises UserError for anything else, for times that do not increase (not live), and where estimates must be
        taken first (not live); AffectError once the session is over.
        """
        self._raise_if_over()
        rgb = _checked_image(image)
        _check_time(time_s)
        self._wait_for_room()
        self._source.push_frame(rgb, float(time_s))

    def push_audio(self, samples: NDArray[Any], time_s: float, sample_rate: int = SAMPLE_RATE) -> None:
        """Sound: float in [-1, 1] or int16, (n,) or (n, channels), whose first sample was heard at `time_s` seconds
        on the clock of the frames. It is copied, mixed to one channel and resampled to 16 kHz.

        Sound that is to count for a frame comes before it or soon after. Raises as `push_frame`.
        """
        self._raise_if_over()
        if not self._sound:
            raise UserError("the session was opened without sound: open it with sound=True")
        _check_time(time_s)
        if not 1000 <= sample_rate <= 768_000:
            raise UserError(
                f"{sample_rate} samples a second cannot be: give the sound's own rate, such as 16000"
            )
        mono = _checked_sound(samples)
        if len(mono):
            self._source.push_sound(mono, float(time_s), int(sample_rate))

    def take(self, timeout_s: float = 0.0) -> list[Estimate]:
        """The estimates that are ready, oldest first; waits up to `timeout_s` for one where there is none.

        Empty once the session is over. Raises what ended it, where that was not its end.
        """
        try:
            return self._handover.take_waiting(timeout_s)
        except Ended:
            return []

    def finish(self) -> list[Estimate]:
        """No more will be pushed: waits until every frame has settled, and returns the rest of the estimates."""
        self._finished = True
        self._source.finish()
        rest: list[Estimate] = []
        try:
            while True:
                rest.append(self._handover.take_one())
        except Ended:
            return rest
        finally:
            self.close()

    def close(self) -> None:
        """Ends the session at once and joins its threads; what was estimated by then can still be taken."""
        self._finished = True
        self._finalizer.detach()
        self._background.close()

    def __iter__(self) -> Iterator[Estimate]:
        with self._noted_loop(), suppress(Ended):
            while True:
                yield self._handover.take_one()

    async def __aiter__(self) -> AsyncIterator[Estimate]:
        with self._noted_loop(), suppress(Ended):
            while True:
                yield await self._handover.take_async()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _noted_loop(self) -> Iterator[None]:
        """While this thread loops over the session."""
        thread = threading.current_thread()
        self._looping.append(thread)
        try:
            yield
        finally:
            self._looping.remove(thread)

    @property
    def _is_taken_elsewhere(self) -> bool:
        """Whether another thread loops over it. A loop in this one takes nothing while a push waits."""
        others = [thread for thread in tuple(self._looping) if thread is not threading.current_thread()]
        return any(thread.is_alive() for thread in others)

    def _raise_if_over(self) -> None:
        if self._background.error is not None:
            raise self._background.error
        if self._finished or self._handover.ended:
            raise AffectError("the session is over: open another one")

    def _wait_for_room(self) -> None:
        """Where every frame counts, waits until the engine has room for another."""
        if self._recording is None:
            return
        since_s, taken = time.monotonic(), self._handover.taken
        while not self._recording.wait_for_room(0.1):
            self._raise_if_over()
            is_waited_for = self._handover.is_full and not self._is_taken_elsewhere
            if not is_waited_for or self._handover.taken != taken:
                since_s, taken = time.monotonic(), self._handover.taken
            elif time.monotonic() - since_s > NOBODY_TAKES_S:
                raise UserError(
                    "estimates wait that nobody takes: call take() between pushes, "
                    "or push in another thread than that of your loop"
                )


def _checked_image(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    found = np.asarray(image)
    if found.dtype != np.uint8 or found.ndim != 3 or found.shape[2] != 3 or not found.size:
        raise UserError(
            f"a frame of {found.dtype} {found.shape} cannot be used: give uint8 (height, width, 3), RGB"
        )
    return np.array(found, order="C")


def _checked_sound(samples: NDArray[Any]) -> NDArray[np.float32]:
    found = np.asarray(samples)
    is_float = found.dtype.kind == "f"
    if found.ndim not in (1, 2) or not (is_float or found.dtype == np.int16):
        raise UserError(
            f"sound of {found.dtype} {found.shape} cannot be used: give float in [-1, 1] or int16, "
            "(n,) or (n, channels)"
        )
    mono = found.astype(np.float32) if is_float else found.astype(np.float32) / np.float32(32768)
    if mono.ndim == 2:
        mono = mono.mean(axis=1)
    if not np.isfinite(mono).all():
        raise UserError("sound with values that are not finite cannot be used: give float in [-1, 1]")
    clipped: NDArray[np.float32] = np.clip(mono, -1.0, 1.0)
    return clipped


def _check_time(time_s: float) -> None:
    if not math.isfinite(time_s):
        raise UserError(f"a time of {time_s} cannot be: give seconds on one clock for frames and sound")
