"""Where a recording and a live source differ on their way through the engine: what waits, and what is dropped.

                 recording                                      live source
frames taken     at their time or as fast as possible           as they come
paused           stands still                                   frames pass unseen
words            all that was said up to a frame is waited for  what is known by now
passed on        when there is room                             at once; the oldest frame makes room, counted
estimated        in batches cut by frame number                 whatever has come meanwhile
sinks            waited for                                     never waited for
a slow machine   is waited for                                  steps down the ladder (`stream.flow.ladder`)
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from stream.estimation.batching import Moment, ends_batch, frames_at_once, keep_words
from stream.flow.channel import Channel, Closed
from stream.flow.ladder import REVIEW_S
from stream.flow.scheduler import Scheduler
from stream.sources.events import AudioChunk, NoPicture, Source, SourceEvent, VideoFrame

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from models.speech.words import SpeechEvent
    from stream.options import EngineSettings
    from stream.perception.speech import Speech
    from stream.sinks.base import Outlet

EVENTS_AHEAD: Final = 8
"""How much of a source may be read before it is used."""

EVENTS_AT_ONCE: Final = 4
FRAMES_AHEAD: Final = 4


class Flow(ABC):
    """The channels between the engine's stages, and how they are filled and emptied.

    `captured` leads from the source to perception, `perceived` from perception to the estimator. `scheduler`
    measures the load and names the rung to serve on. `hear` and `words_until` belong to the perception thread;
    everything else to the event loop.
    """

    def __init__(
        self, source: Source, speech: Speech, settings: EngineSettings, scheduler: Scheduler
    ) -> None:
        self.scheduler = scheduler
        self.captured: Channel[SourceEvent] = Channel(EVENTS_AHEAD)
        self._most_at_once = frames_at_once(settings.latency_target_ms, source.info.frame_rate)
        # Room for a whole batch, so that the next one comes together while this one is estimated.
        self.perceived: Channel[Moment] = Channel(max(FRAMES_AHEAD, self._most_at_once), merge=keep_words)
        self._source = source
        self._speech = speech
        self._unpaused = asyncio.Event()
        self._unpaused.set()

    def pause(self) -> None:
        """From now on nothing new is looked at."""
        self._unpaused.clear()

    def resume(self) -> None:
        """Ends a pause."""
        self._unpaused.set()

    @property
    @abstractmethod
    def looks(self) -> bool:
        """Whether what `next_events` gives is looked at and listened to; otherwise it passes unseen."""

    @property
    @abstractmethod
    def is_timed(self) -> bool:
        """Whether the time from a frame's capture to its estimate means anything."""

    @property
    @abstractmethod
    def counters(self) -> Mapping[str, float]:
        """What there is to count on this way, by name."""

    @abstractmethod
    async def next_events(self) -> list[SourceEvent]:
        """What the source has given, in order; empty when there is no more. Raises what the source raised."""

    @abstractmethod
    def hear(self, chunk: AudioChunk) -> None:
        """Hands sound to the recogniser."""

    @abstractmethod
    def words_until(self, time_s: float) -> list[SpeechEvent]:
        """What the recogniser says of the sound up to a media time."""

    @abstractmethod
    async def pass_on(self, moment: Moment) -> None:
        """Hands a frame on to the estimator."""

    @abstractmethod
    async def next_moments(self) -> list[Moment]:
        """What is to be estimated together; empty when there is no more."""

    @property
    @abstractmethod
    def has_next_moments(self) -> bool:
        """Whether what is to be estimated next is there."""

    @abstractmethod
    async def wait_for_sinks(self, outlet: Outlet) -> None:
        """Holds estimates back where the sinks have no room for them."""

    @abstractmethod
    async def watch_load(self, on_change: Callable[[], None]) -> None:
        """Steps down and up the ladder by the load, until cancelled; `on_change` is called after each step."""


class RecordingFlow(Flow):
    """Everything waits, nothing is lost, and what is computed depends on the recording alone.

    `clock` is the wall clock in seconds; each frame is held back to its time where the pace is `live`.
    """

    def __init__(
        self, source: Source, speech: Speech, settings: EngineSettings, clock: Callable[[], float]
    ) -> None:
        super().__init__(source, speech, settings, Scheduler(settings.budget, live=False))
        self._clock = clock
        self._is_paced = settings.pace == "live"
        self._began_at: float | None = None
        self._behind_s = 0.0

    @property
    def looks(self) -> bool:
        """Always: while paused nothing is given."""
        return True

    @property
    def is_timed(self) -> bool:
        """Only at its own pace: as fast as possible, frames were not captured at any time."""
        return self._is_paced

    @property
    def counters(self) -> Mapping[str, float]:
        """`behind_s`: by how many seconds the newest frame was late for its time."""
        return {"behind_s": round(self._behind_s, 3)}

    async def next_events(self) -> list[SourceEvent]:
        """The next few events, or at the recording's own pace the next one, when its time has come."""
        try:
            # One by one where paced: the recogniser hears the sound while the frame behind it waits for its time.
            events = await self.captured.take_some(1 if self._is_paced else EVENTS_AT_ONCE)
        except Closed:
            return []
        await self._stand_still_while_paused()
        if not self._is_paced:
            return events
        return [
            await self._hold_until_due(event) if isinstance(event, VideoFrame) else event for event in events
        ]

    async def _stand_still_while_paused(self) -> None:
        if self._unpaused.is_set():
            return
        paused_at = self._clock()
        await self._unpaused.wait()
        if self._began_at is not None:
            self._began_at += self._clock() - paused_at

    async def _hold_until_due(self, frame: VideoFrame) -> VideoFrame:
        """The frame at its time, which counts as that of its capture; the first is due at once."""
        if self._began_at is None:
            self._began_at = self._clock() - frame.time_s
        due = self._began_at + frame.time_s
        self._behind_s = max(0.0, self._clock() - due)
        await asyncio.sleep(max(0.0, due - self._clock()))
        return replace(frame, captured_at=due)

    def hear(self, chunk: AudioChunk) -> None:
        """Waits where the recogniser is far behind."""
        self._speech.hear(chunk, wait=True)

    def words_until(self, time_s: float) -> list[SpeechEvent]:
        """Waits for all of it, so that every replay gives the same words at the same frames."""
        return self._speech.catch_up(time_s)

    async def pass_on(self, moment: Moment) -> None:
        """Waits for room."""
        await self.perceived.put(moment)

    async def next_moments(self) -> list[Moment]:
        """A whole batch, which is cut by frame number alone; at the end, what is left of one."""
        moments: list[Moment] = []
        with suppress(Closed):
            while not moments or not self._ends_batch(moments[-1]):
                moments += await self.perceived.take_some(self._most_at_once, self._ends_batch)
        return moments

    def _ends_batch(self, moment: Moment) -> bool:
        return moment.features is not None and ends_batch(moment.features.index, self._most_at_once)

    @property
    def has_next_moments(self) -> bool:
        """Whether a whole batch waits."""
        return len(self.perceived) >= self._most_at_once

    async def wait_for_sinks(self, outlet: Outlet) -> None:
        """Waits until every sink has room."""
        await outlet.ready()

    async def watch_load(self, on_change: Callable[[], None]) -> None:
        """Nothing to watch: a recording waits and is never degraded."""


class LiveFlow(Flow):
    """Nothing waits: the newest frame wins, and what is dropped or degraded is counted and said."""

    def __init__(self, source: Source, speech: Speech, settings: EngineSettings) -> None:
        super().__init__(source, speech, settings, Scheduler(settings.budget, live=True))

    @property
    def looks(self) -> bool:
        """Not while paused."""
        return self._unpaused.is_set()

    @property
    def is_timed(self) -> bool:
        """Always: each frame was captured at a time on the wall clock."""
        return True

    @property
    def counters(self) -> Mapping[str, float]:
        """None of its own."""
        return {}

    async def next_events(self) -> list[SourceEvent]:
        """What has come, up to a frame, which is not to wait for later events."""
        try:
            return await self.captured.take_some(
                EVENTS_AT_ONCE, lambda event: isinstance(event, VideoFrame | NoPicture)
            )
        except Closed:
            return []

    def hear(self, chunk: AudioChunk) -> None:
        """Where the recogniser is far behind the sound is dropped, and counted."""
        self._speech.hear(chunk)

    def words_until(self, time_s: float) -> list[SpeechEvent]:
        """What is known by now; the rest comes with later frames."""
        return self._speech.keep_up(time_s)

    async def pass_on(self, moment: Moment) -> None:
        """At once; where the estimator is behind, its oldest frame is dropped."""
        self.perceived.post(moment)

    async def next_moments(self) -> list[Moment]:
        """Whatever has come, as far as the latency target allows."""
        try:
            return await self.perceived.take_some(self._most_at_once)
        except Closed:
            return []

    @property
    def has_next_moments(self) -> bool:
        """Whether any frame waits."""
        return len(self.perceived) > 0

    async def wait_for_sinks(self, outlet: Outlet) -> None:
        """Never waits: a sink drops what it has no room for."""

    async def watch_load(self, on_change: Callable[[], None]) -> None:
        """Judges the load every half second."""
        while True:
            await asyncio.sleep(REVIEW_S)
            dropped_frames = self.perceived.dropped + self._source.counters.get("ticks_dropped", 0)
            if self.scheduler.review(dropped_frames):
                on_change()


def flow_of(source: Source, speech: Speech, settings: EngineSettings, clock: Callable[[], float]) -> Flow:
    """The way that a source goes. Raises UserError for a budget that is no rung of `stream.flow.ladder`."""
    if source.live:
        return LiveFlow(source, speech, settings)
    return RecordingFlow(source, speech, settings, clock)
