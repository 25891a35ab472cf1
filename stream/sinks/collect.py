"""Everything of a run, kept in memory: for recordings, whose end is known."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stream.messages import Estimate, Marker, Status, Transcript, TranscriptWord


class CollectSink:
    """Keeps settled estimates, the words and the last status, and tells `progress` of each settled frame: on the
    engine's event loop, which nothing may hold up.

    Unbounded, so for recordings only.
    """

    name = "collect"

    def __init__(self, progress: Callable[[int], None] | None = None) -> None:
        self.settled: list[Estimate] = []
        self.status: Status | None = None
        self._progress = progress
        self._utterances: dict[int, Transcript] = {}

    @property
    def words(self) -> tuple[TranscriptWord, ...]:
        """What was said, in order, as far as it is known."""
        return tuple(word for _, said in sorted(self._utterances.items()) for word in said.words)

    @property
    def drops(self) -> Mapping[str, int]:
        """Nothing is dropped."""
        return {}

    @property
    def counters(self) -> Mapping[str, float]:
        """Nothing is counted."""
        return {}

    async def open(self) -> None:
        """Nothing to acquire."""

    async def run(self) -> None:
        """Nothing to do beside the engine."""
        await asyncio.Event().wait()

    async def ready(self) -> None:
        """There is always room."""

    def offer(self, estimate: Estimate) -> None:
        """Keep a settled estimate."""
        if estimate.settled:
            self.settled.append(estimate)
            if self._progress is not None:
                self._progress(1)

    def offer_status(self, status: Status) -> None:
        """Keep the last one."""
        self.status = status

    def offer_transcript(self, transcript: Transcript) -> None:
        """Keep an utterance's newest words."""
        self._utterances[transcript.utterance] = transcript

    def offer_marker(self, marker: Marker) -> None:
        """Markers are not kept."""

    async def close(self) -> None:
        """Nothing to release."""
