"""The engine: source -> features -> estimates -> sinks, each stage in its place, one owner of them all.

    capture      the source's own thread                        frames and sound, paced by the clock where asked
    perceive     a thread for sight and sound, one for speech   a `Moment` per frame
    estimate     a thread for the ensemble                      provisional and settled estimates
    sinks        a task each                                    whoever takes them

The event loop only passes things on. Every queue is bounded: a recording waits where a stage is behind and
never loses a frame; a live source's newest frame wins, every drop is counted by cause, and an engine that
does not keep up steps down the ladder (`stream.flow.ladder`). Frames are estimated a few at once
(`stream.estimation.batching`); their provisional estimates go out before anything is settled.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from functools import cache, partial
from importlib.metadata import version
from typing import Final, Literal, TypeVar

from models.speech.words import Settled, SpeechEvent, WordsRevised
from stream.estimation.batching import Moment, ends_batch, frames_at_once, keep_words, runs
from stream.estimation.estimator import Estimator, EstimatorState
from stream.flow.ladder import AUTO, REVIEW_S, Rung
from stream.flow.mailbox import Closed, Mailbox
from stream.flow.scheduler import Scheduler
from stream.messages import BundleStatus, Estimate, InputStatus, Phase, Status, Transcript
from stream.options import LATENCY_TARGET_MS, Pace
from stream.perception.features import Availability, Perception, PerceptionState
from stream.perception.speech import Speech
from stream.sinks.base import Outlet, Sink, attached
from stream.sources.events import AudioChunk, InputChange, NoPicture, Source, SourceEvent, VideoFrame
from stream.sources.pump import pump
from stream.telemetry import Telemetry, resident_mib

EngineCommand = Literal["pause", "resume", "recenter"]
T = TypeVar("T")

STATUS_EVERY_S: Final = 1.0
EVENTS_AHEAD: Final = 4
FRAMES_AHEAD: Final = 4

# Frames settled at once: a few milliseconds, after which a frame that has come meanwhile goes first.
SETTLE_AT_ONCE: Final = 8

# The source's counters that say that something captured was not used.
SOURCE_DROPS: Final = frozenset({"ticks_dropped", "camera_surplus", "microphone_overflow_samples"})


@dataclass(frozen=True)
class EngineSettings:
    """How the engine runs.

    `pace` concerns recordings: `live` waits for each frame's time, `fast` for nobody. `budget` concerns live
    sources: `auto`, or the rung of `stream.flow.ladder` to stay on. `latency_target_ms` is how long a recording's
    frame may wait for others to be estimated with; it bounds how many of a live source's are. `detector`,
    `accelerator`, `notes` and `measures` (more counters) are for `status`.
    """

    pace: Pace = "live"
    budget: str = AUTO
    latency_target_ms: float = LATENCY_TARGET_MS
    detector: str = ""
    accelerator: str = "eager"
    notes: tuple[str, ...] = ()
    measures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Summary:
    """What a run came to: frames seen and settled, wall-clock seconds, the last status."""

    frames: int
    settled: int
    duration_s: float
    status: Status


class Engine:
    """Runs one source through perception, speech and the estimator, to any number of sinks.

    `run` returns when the source has ended and everything has settled; cancelled, it closes the source and
    passes on to the sinks what was settled by then. `inputs` are the inputs' states at the start (`camera`,
    `microphone`, `recogniser`); `clock` is the wall clock in seconds.
    """

    def __init__(
        self,
        source: Source,
        perception: Perception,
        speech: Speech,
        estimator: Estimator,
        sinks: Sequence[Sink],
        *,
        bundle: BundleStatus,
        inputs: dict[str, InputStatus],
        settings: EngineSettings | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._source = source
        self._perception = perception
        self._speech = speech
        self._estimator = estimator
        self._sinks = sinks
        self._bundle = bundle
        self._inputs = dict(inputs)
        self._settings = settings or EngineSettings()
        self._clock = clock
        self._outlet = Outlet(())
        self._telemetry = Telemetry()
        self._phase: Phase = "starting"
        self._running = asyncio.Event()
        self._running.set()
        self._recenter = False
        self._scheduler = Scheduler(self._settings.budget, live=source.live)
        self._frames = self._settled = self._settled_early = self._passed_paused = 0
        self._behind_s = 0.0
        self._captured: Mailbox[SourceEvent] = Mailbox(EVENTS_AHEAD)
        self._at_once = frames_at_once(self._settings.latency_target_ms, source.info.frame_rate)
        # Room for a whole batch, so that the next one comes together while this one is estimated.
        self._perceived: Mailbox[Moment] = Mailbox(max(FRAMES_AHEAD, self._at_once), merge=keep_words)
        self._sight = ThreadPoolExecutor(1, "perception")
        self._thought = ThreadPoolExecutor(1, "estimator")

    async def run(self) -> Summary:
        """Everything, from the first frame to the last settled estimate.

        Raises what the source or a sink raised (`UserError` where a user can mend it).
        """
        began = time.monotonic()
        try:
            await asyncio.to_thread(_version)  # every status has it, and the first would read files for it
            async with attached(self._sinks) as outlet:
                self._outlet = outlet
                self._turn("running")
                try:
                    await self._run_stages()
                finally:
                    self._turn("stopped")
        finally:
            await asyncio.to_thread(self._close)
        return Summary(self._frames, self._settled, time.monotonic() - began, self.status())

    def command(self, command: EngineCommand) -> None:
        """Pause (a recording stands still, live frames pass unseen), resume, or forget the centering window."""
        if command == "recenter":
            self._recenter = True
        elif command == "pause" and self._phase == "running":
            self._running.clear()
            self._turn("paused")
        elif command == "resume" and self._phase == "paused":
            self._running.set()
            self._turn("running")

    def status(self) -> Status:
        """How things stand."""
        return Status(
            phase=self._phase,
            source=self._source.info.name,
            inputs=dict(self._inputs),
            frames=self._frames,
            settled=self._settled,
            frame_rate=round(self._telemetry.frame_rate(), 2),
            latency_ms=self._telemetry.latency(),
            drops=self._drops(),
            bundle=self._bundle,
            accelerator=self._settings.accelerator,
            detector=self._settings.detector,
            version=_version(),
            counters=self._counters(),
            budget=self._scheduler.budget,
            degraded=self._scheduler.degraded,
            notes=self._settings.notes,
        )

    async def _run_stages(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                watching = [
                    group.create_task(self._report(), name="status"),
                    group.create_task(self._review(), name="scheduler"),
                ]
                group.create_task(self._capture(), name="capture")
                group.create_task(self._perceive(), name="perceive")
                await self._estimate()
                for task in watching:
                    task.cancel()
        except BaseExceptionGroup as raised:
            raise raised.exceptions[0] from None

    async def _capture(self) -> None:
        """The source's events; a recording replayed live is held back to the clock."""
        paced = self._settings.pace == "live" and not self._source.live
        began: float | None = None
        async with aclosing(pump(self._source, queue_events=EVENTS_AHEAD)) as events:
            async for event in events:
                if not self._running.is_set() and not self._source.live:
                    paused_at = self._clock()
                    await self._running.wait()
                    began = None if began is None else began + self._clock() - paused_at
                if paced and isinstance(event, VideoFrame):
                    began = self._clock() - event.time_s if began is None else began
                    due = began + event.time_s
                    self._behind_s = max(0.0, self._clock() - due)
                    await asyncio.sleep(max(0.0, due - self._clock()))
                    await self._captured.put(replace(event, captured_at=due))
                else:
                    await self._captured.put(event)
        await self._captured.close()

    async def _perceive(self) -> None:
        """Frames to features and sound to the recogniser; both go on to the estimator as moments."""
        state = self._perception.initial_state()
        while events := await self._next_events():
            for run in runs(events, key=lambda event: isinstance(event, InputChange)):
                if changes := [event for event in run if isinstance(event, InputChange)]:
                    self._inputs.update((change.name, change.status) for change in changes)
                    self._outlet.offer_status(self.status())
                elif self._watching():
                    with self._scheduler.busy("perceive"):
                        state, moments = await self._in(
                            self._sight, self._take_in, state, run, self._available(), self._scheduler.rung
                        )
                    for moment in moments:
                        await self._pass_on(moment)
                else:
                    await self._let_pass(run)
        ending = await self._in(self._sight, self._speech.finish)
        await self._perceived.put(Moment(None, tuple(ending)))
        await self._perceived.close()

    async def _next_events(self) -> list[SourceEvent]:
        """What the source has given: up to a frame, which is not to wait for later ones; more where nobody waits.

        Nothing when there is no more.
        """
        hurried = self._source.live or self._settings.pace == "live"
        last = (lambda event: isinstance(event, VideoFrame | NoPicture)) if hurried else None
        with suppress(Closed):
            return await self._captured.take_some(EVENTS_AHEAD, last)
        return []

    def _watching(self) -> bool:
        """Whether what comes is taken in. A recording stands still while paused: what comes still counts."""
        return self._running.is_set() or not self._source.live

    def _take_in(
        self, state: PerceptionState, events: Sequence[SourceEvent], available: Availability, rung: Rung
    ) -> tuple[PerceptionState, list[Moment]]:
        """Frames and sound, in the thread for sight and sound: a moment for each frame."""
        moments: list[Moment] = []
        for event in events:
            match event:
                case AudioChunk():
                    self._speech.hear(event, wait=not self._source.live)
                    state = self._perception.hear(state, event)
                case VideoFrame():
                    state, features = self._perception.see(state, event, available, rung)
                    moments.append(Moment(features, tuple(self._heard_by(event.time_s))))
                case NoPicture():
                    state, features = self._perception.miss(state, event, available, rung)
                    moments.append(Moment(features, tuple(self._heard_by(event.time_s))))
        return state, moments

    def _heard_by(self, time_s: float) -> list[SpeechEvent]:
        return self._speech.keep_up(time_s) if self._source.live else self._speech.catch_up(time_s)

    async def _let_pass(self, events: Sequence[SourceEvent]) -> None:
        """Paused: frames pass unseen, but those seen before go on to settle."""
        for event in events:
            if isinstance(event, VideoFrame | NoPicture):
                self._passed_paused += 1
                if words := await self._in(self._sight, self._speech.keep_up, event.time_s):
                    await self._perceived.put(Moment(None, tuple(words)))

    async def _pass_on(self, moment: Moment) -> None:
        if self._source.live:
            await self._perceived.post(moment)
        else:
            await self._perceived.put(moment)

    async def _estimate(self) -> None:
        """Moments to estimates, and estimates to the sinks."""
        state = self._estimator.initial_state()
        while moments := await self._gather():
            if not self._source.live:
                await self._outlet.ready()
            if self._recenter:
                self._recenter = False
                state = self._estimator.recenter(state)
            state = await self._answer(state, moments)
        # Nothing waits behind this: all of it is settled.
        await self._answer(state, [Moment(None, (Settled(float("inf")),))])

    async def _gather(self) -> list[Moment]:
        """What is to be estimated together: a recording's next batch, or what has come of a live source's frames.

        Nothing when there is no more.
        """
        moments: list[Moment] = []
        with suppress(Closed):
            if self._source.live:
                return await self._perceived.take_some(self._at_once)
            while not moments or not self._is_whole(moments[-1]):
                moments += await self._perceived.take_some(self._at_once, self._is_whole)
        return moments

    def _is_whole(self, last: Moment) -> bool:
        return last.features is not None and ends_batch(last.features.index, self._at_once)

    async def _answer(self, state: EstimatorState, moments: Sequence[Moment]) -> EstimatorState:
        """The provisional estimates first, then what has settled, as far as the next frames leave time for it."""
        with self._scheduler.busy("estimate"):
            state, provisional = await self._in(self._thought, self._estimator.answer, state, moments)
            self._publish_words([event for moment in moments for event in moment.events])
            for estimate in provisional:
                self._publish(estimate)
            while self._estimator.can_settle(state):
                state, settled = await self._in(self._thought, self._estimator.settle, state, SETTLE_AT_ONCE)
                self._settled_early = state.settled_early
                for estimate in settled:
                    self._publish(estimate)
                if self._awaited() and not state.window.crowded:
                    break
        return state

    def _awaited(self) -> bool:
        """Whether what is to be estimated next is there."""
        return len(self._perceived) >= (1 if self._source.live else self._at_once)

    def _publish_words(self, events: Sequence[SpeechEvent]) -> None:
        for event in events:
            if isinstance(event, WordsRevised):
                self._outlet.offer_transcript(Transcript.of(event))

    def _publish(self, estimate: Estimate) -> None:
        if estimate.settled:
            self._settled += 1
        else:
            self._frames += 1
            # A recording replayed as fast as it goes was not captured at any time.
            timed = self._source.live or self._settings.pace == "live"
            estimate = estimate if timed else replace(estimate, latency_ms=None)
            self._telemetry.frame(estimate.latency_ms)
        self._outlet.offer(estimate)

    async def _review(self) -> None:
        """Steps on the ladder, announced at once."""
        while self._source.live:
            await asyncio.sleep(REVIEW_S)
            dropped = self._perceived.dropped + self._source.counters.get("ticks_dropped", 0)
            if self._scheduler.review(dropped):
                self._outlet.offer_status(self.status())

    async def _report(self) -> None:
        while True:
            self._outlet.offer_status(self.status())
            await asyncio.sleep(STATUS_EVERY_S)

    def _turn(self, phase: Phase) -> None:
        self._phase = phase
        self._outlet.offer_status(self.status())

    def _available(self) -> Availability:
        """Which inputs are there right now, by their health; a picture is there when it comes."""

        def is_fine(name: str) -> bool:
            return name in self._inputs and self._inputs[name].health == "ok"

        return Availability(
            audio=is_fine("microphone"),
            language=is_fine("microphone") and is_fine("recogniser"),
        )

    def _drops(self) -> dict[str, int]:
        own = {"estimate_busy": self._perceived.dropped, "speech_busy": self._speech.dropped_chunks}
        source = {name: n for name, n in self._source.counters.items() if name in SOURCE_DROPS}
        return {name: n for name, n in {**own, **source, **self._outlet.drops}.items() if n}

    def _counters(self) -> dict[str, float]:
        own = {
            "settled_early": self._settled_early,
            "behind_s": round(self._behind_s, 3),
            "load": round(self._scheduler.load, 2),
            "frames_paused": self._passed_paused,
            "speech_late_samples": self._speech.late_samples,
            "resident_mib": resident_mib(),
            **self._settings.measures,
            **self._source.measures,
        }
        source = {name: n for name, n in self._source.counters.items() if name not in SOURCE_DROPS}
        return {name: n for name, n in {**own, **source, **self._outlet.counters}.items() if n}

    async def _in(self, threads: ThreadPoolExecutor, work: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(threads, partial(work, *args))

    def _close(self) -> None:
        self._sight.shutdown(wait=True, cancel_futures=True)
        self._thought.shutdown(wait=True, cancel_futures=True)
        self._speech.close()


@cache
def _version() -> str:
    """The installed package's, which is read from its files."""
    return version("affectstream")
