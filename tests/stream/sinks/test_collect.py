"""A run kept in memory: settled estimates, the words as they ended, the last status."""

from __future__ import annotations

from stream.messages import Transcript, TranscriptWord
from stream.sinks.base import Sink
from stream.sinks.collect import CollectSink
from tests.stream.brokers import estimate, status


def test_it_keeps_what_is_final() -> None:
    told: list[int] = []
    sink = CollectSink(told.append)
    assert isinstance(sink, Sink)
    sink.offer(estimate(0))
    sink.offer(estimate(0, settled=True))
    for utterance, text, settled in ((0, "how", False), (1, "fine", True), (0, "house", True)):
        sink.offer_transcript(Transcript(utterance, (TranscriptWord(text, 0.0, 0.1),), settled))
    sink.offer_status(status(frames=1))
    sink.offer_status(status(frames=2))
    assert [e.settled for e in sink.settled] == [True]
    assert told == [1]
    assert [word.text for word in sink.words] == ["house", "fine"]
    assert sink.status is not None
    assert sink.status.frames == 2
