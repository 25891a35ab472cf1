"""Everything of a run, kept in memory: for recordings, whose end is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stream.sinks.base import QuietSink

if TYPE_CHECKING:
    from collections.abc import Callable

    from stream.messages import Estimate, Status, Transcript, TranscriptWord


class CollectSink(QuietSink):
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
