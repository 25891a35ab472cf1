"""The engine: source -> features -> estimates -> sinks, each stage in its place, one owner of them all.

    capture      the source's own thread                        frames and sound
    perceive     a thread for sight and sound, one for speech   a `Moment` per frame
    estimate     a thread for the ensemble                      provisional and settled estimates
    sinks        a task each                                    whoever takes them

The event loop only passes things on. Every queue is bounded. What waits and what is dropped where a stage is behind
differs between recordings and live sources, and is decided in `stream.pacing`. Frames are estimated a few at once
(`stream.estimation.batching`); their provisional estimates go out before anything is settled.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

from models.speech.words import EVERYTHING_SETTLED, WordsRevised
from stream.estimation.batching import Moment, runs
from stream.messages import (
    CommandOutcome,
    EngineCommand,
    Estimate,
    InputStatus,
    Marker,
    Origin,
    Status,
    Transcript,
)
from stream.options import EngineSettings
from stream.pacing import flow_of
from stream.perception.features import Availability, Perception, PerceptionState
from stream.sinks.base import Outlet, Sink, attached
from stream.sources.events import AudioChunk, InputChange, NoPicture, Source, SourceEvent, VideoFrame
from stream.sources.pump import pump
from stream.status import RunFacts, StatusBoard, package_version

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from stream.estimation.estimator import Estimator, EstimatorState
    from stream.flow.ladder import Rung
    from stream.perception.speech import Speech

P = ParamSpec("P")
T = TypeVar("T")

STATUS_EVERY_S: Final = 1.0

SETTLE_AT_ONCE: Final = 8
"""Frames settled at once: a few milliseconds, after which a frame that has come meanwhile goes first."""


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
    `microphone`, `recogniser`); `clock` is the wall clock in seconds. Raises UserError for a budget that is no rung.
    """

    def __init__(
        self,
        source: Source,
        perception: Perception,
        speech: Speech,
        estimator: Estimator,
        sinks: Sequence[Sink],
        *,
        facts: RunFacts,
        inputs: Mapping[str, InputStatus],
        settings: EngineSettings | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._source = source
        self._perception = perception
        self._speech = speech
        self._estimator = estimator
        self._sinks = sinks
        self._flow = flow_of(source, speech, settings or EngineSettings(), clock)
        self._board = StatusBoard(facts, inputs, source, self._flow, speech)
        self._outlet = Outlet(())
        self._recenter_requested = False
        self._clock = clock
        self._newest: Estimate | None = None
        self._perception_thread = ThreadPoolExecutor(1, "perception")
        self._estimator_thread = ThreadPoolExecutor(1, "estimator")

    async def run(self) -> Summary:
        """Everything, from the first frame to the last settled estimate.

        Raises what the source or a sink raised (`UserError` where a user can mend it).
        """
        began_s = time.monotonic()
        try:
            # Every status has it, and the first would read files for it.
            await asyncio.to_thread(package_version)
            async with attached(self._sinks) as outlet:
                self._outlet = outlet
                self._board.publish_to(outlet)
                self._board.enter("running")
                try:
                    await self._run_stages()
                finally:
                    self._board.enter("stopped")
        finally:
            await asyncio.to_thread(self._close_threads)
        return Summary(
            self._board.frames, self._board.settled, time.monotonic() - began_s, self._board.snapshot()
        )

    def command(self, command: EngineCommand) -> CommandOutcome:
        """Pause (a recording stands still, live frames pass unseen), resume, or forget the centering window."""
        phase = self._board.phase
        if phase not in ("running", "paused"):
            return CommandOutcome(False, f"the run is {phase}")
        if command == "recenter":
            self._recenter_requested = True
        elif command == "pause":
            if phase == "paused":
                return CommandOutcome(True, "paused already")
            self._flow.pause()
            self._board.enter("paused")
        else:
            if phase == "running":
                return CommandOutcome(True, "running already")
            self._flow.resume()
            self._board.enter("running")
        return CommandOutcome(True)

    def mark(self, text: str, origin: Origin, marked_at: float | None = None) -> Marker:
        """Marks a moment (seconds since the epoch, by default now) and tells every sink."""
        marked_at = self._clock() if marked_at is None else marked_at
        marker = Marker(text, marked_at, self._media_time_at(marked_at), origin)
        self._outlet.offer_marker(marker)
        return marker

    def _media_time_at(self, wall_s: float) -> float | None:
        """Where the source was then: told from its newest estimate, whose time of capture is known."""
        newest = self._newest
        if newest is None:
            return None
        stands = not self._flow.is_timed or (self._board.phase == "paused" and not self._source.live)
        return newest.time_s if stands else max(0.0, newest.time_s + wall_s - newest.captured_at)

    def status(self) -> Status:
        """How things stand."""
        return self._board.snapshot()

    async def _run_stages(self) -> None:
        """All stages side by side, until the last has nothing left to do or one of them fails."""
        try:
            async with asyncio.TaskGroup() as group:
                endless = [
                    group.create_task(self._publish_status_regularly(), name="status"),
                    group.create_task(self._flow.watch_load(self._board.publish), name="scheduler"),
                ]
                group.create_task(pump(self._source, self._flow.captured), name="capture")
                group.create_task(self._perceive(), name="perceive")
                await self._estimate()
                for task in endless:
                    task.cancel()
        except BaseExceptionGroup as raised:
            raise raised.exceptions[0] from None

    async def _publish_status_regularly(self) -> None:
        while True:
            self._board.publish()
            await asyncio.sleep(STATUS_EVERY_S)

    async def _perceive(self) -> None:
        """Frames to features and sound to the recogniser; both go on to the estimator as moments."""
        state = self._perception.initial_state()
        while events := await self._flow.next_events():
            for run in runs(events, key=lambda event: isinstance(event, InputChange)):
                if changes := [event for event in run if isinstance(event, InputChange)]:
                    self._board.update_inputs(changes)
                elif self._flow.looks:
                    with self._flow.scheduler.busy("perceive"):
                        state, moments = await self._run_in(
                            self._perception_thread,
                            self._look_and_listen,
                            state,
                            run,
                            Availability.by_health(self._board.inputs),
                            self._flow.scheduler.rung,
                        )
                    for moment in moments:
                        if moment.features is not None:
                            self._outlet.offer_crop(moment.features.crop, face=moment.features.face)
                        await self._flow.pass_on(moment)
                else:
                    await self._let_pass_unseen(run)
        last_words = await self._run_in(self._perception_thread, self._speech.finish)
        await self._flow.perceived.put(Moment(None, tuple(last_words)))
        self._flow.perceived.close()

    def _look_and_listen(
        self, state: PerceptionState, events: Sequence[SourceEvent], available: Availability, rung: Rung
    ) -> tuple[PerceptionState, list[Moment]]:
        """In the perception thread: frames and sound in, a moment for each frame out."""
        moments: list[Moment] = []
        for event in events:
            if isinstance(event, AudioChunk):
                self._flow.hear(event)
                state, _ = self._perception.step(state, event)
            elif isinstance(event, VideoFrame | NoPicture):
                state, features = self._perception.step(state, event, available, rung)
                features = replace(features, perceived_at=self._clock())
                moments.append(Moment(features, tuple(self._flow.words_until(event.time_s))))
        return state, moments

    async def _let_pass_unseen(self, events: Sequence[SourceEvent]) -> None:
        """While a live source is paused: its frames are counted, and those seen before go on to settle."""
        for event in events:
            if isinstance(event, VideoFrame | NoPicture):
                self._board.frames_paused += 1
                words = await self._run_in(self._perception_thread, self._flow.words_until, event.time_s)
                if words:
                    await self._flow.perceived.put(Moment(None, tuple(words)))

    async def _estimate(self) -> None:
        """Moments to estimates, and estimates to the sinks."""
        state = self._estimator.initial_state()
        while moments := await self._flow.next_moments():
            await self._flow.wait_for_sinks(self._outlet)
            if self._recenter_requested:
                self._recenter_requested = False
                state = self._estimator.recenter(state)
            state = await self._estimate_moments(state, moments)
        # Nothing waits behind this: all of it is settled.
        await self._estimate_moments(state, [Moment(None, (EVERYTHING_SETTLED,))])

    async def _estimate_moments(self, state: EstimatorState, moments: Sequence[Moment]) -> EstimatorState:
        """The provisional estimates first, then what has settled, as far as the next frames leave time for it."""
        with self._flow.scheduler.busy("estimate"):
            state, provisional = await self._run_in(
                self._estimator_thread, self._estimator.answer, state, moments
            )
            self._publish_transcripts(moments)
            self._publish_estimates(provisional)
            while self._estimator.can_settle(state):
                state, settled = await self._run_in(
                    self._estimator_thread, self._estimator.settle, state, SETTLE_AT_ONCE
                )
                self._board.settled_early = state.settled_early
                self._publish_estimates(settled)
                if self._flow.has_next_moments and not state.window.crowded:
                    break
        return state

    def _publish_transcripts(self, moments: Sequence[Moment]) -> None:
        for moment in moments:
            for event in moment.events:
                if isinstance(event, WordsRevised):
                    self._outlet.offer_transcript(Transcript.of(event))

    def _publish_estimates(self, estimates: Sequence[Estimate]) -> None:
        for estimate in estimates:
            published = estimate
            if not self._flow.is_timed:
                published = replace(estimate, latency_ms=None, perceived_at=None)
            self._board.count(published)
            if not published.settled:
                self._newest = published
            self._outlet.offer(published)

    async def _run_in(
        self, thread: ThreadPoolExecutor, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return await asyncio.get_running_loop().run_in_executor(thread, partial(work, *args, **kwargs))

    def _close_threads(self) -> None:
        self._perception_thread.shutdown(wait=True, cancel_futures=True)
        self._estimator_thread.shutdown(wait=True, cancel_futures=True)
        self._speech.close()
