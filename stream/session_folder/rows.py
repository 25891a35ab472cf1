"""From what an engine offers to the rows of a session's tables."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from models.credentials import hide_credentials

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from stream.messages import Affect, Estimate, Marker, Status, Transcript
    from stream.session_folder.layout import Value

Row = tuple["Value", ...]

MOST_UNSETTLED: Final = 4096
"""Provisional estimates kept until they settle: far more than the engine's window has frames."""

NOTHING_SPARED: Final = "full"


class FrameRows:
    """Pairs each frame's provisional estimate with its settled one: one row a frame.

    `monotonic_offset_s` is what to subtract from a time since the epoch for the monotonic clock, as of now.
    """

    def __init__(self, folds: int) -> None:
        self._folds = folds
        self._unsettled: OrderedDict[int, tuple[Estimate, float]] = OrderedDict()

    def provisional(self, estimate: Estimate, monotonic_offset_s: float) -> Row:
        """The frame's row as far as it is known."""
        captured_s = estimate.captured_at - monotonic_offset_s
        self._unsettled[estimate.frame] = (estimate, captured_s)
        if len(self._unsettled) > MOST_UNSETTLED:
            self._unsettled.popitem(last=False)
        return self._row(estimate, None, captured_s)

    def settled(self, estimate: Estimate, monotonic_offset_s: float) -> Row:
        """The frame's row, complete."""
        first, captured_s = self._unsettled.pop(
            estimate.frame, (None, estimate.captured_at - monotonic_offset_s)
        )
        return self._row(first, estimate, captured_s)

    def take_unsettled(self) -> list[Row]:
        """The rows of frames that will not settle any more, in order."""
        rows = [self._row(estimate, None, captured_s) for estimate, captured_s in self._unsettled.values()]
        self._unsettled.clear()
        return rows

    def _row(self, first: Estimate | None, final: Estimate | None, captured_s: float) -> Row:
        newest = final or first
        assert newest is not None
        folds: list[Value] = [value for fold in newest.folds for value in (fold.valence, fold.arousal)]
        folds += [None] * (2 * self._folds - len(folds))
        return (
            newest.frame,
            float(newest.time_s),
            float(newest.captured_at),
            captured_s,
            *_values(first),
            *_values(final),
            *folds[: 2 * self._folds],
            newest.present.face,
            newest.present.voice,
            newest.present.words,
            newest.degraded or NOTHING_SPARED,
            None if first is None else first.latency_ms,
        )


def _values(estimate: Estimate | None) -> Row:
    if estimate is None:
        return (None,) * 4
    return (*_pair(estimate.value), *_pair(estimate.spread))


def _pair(affect: Affect) -> tuple[float, float]:
    return float(affect.valence), float(affect.arousal)


class WordRows:
    """An utterance's words as rows: final ones once, and those that may still change by revision."""

    def __init__(self) -> None:
        self._open: dict[int, Transcript] = {}
        self._revision = 0

    def revised(self, transcript: Transcript) -> tuple[list[Row], list[Row]]:
        """Rows that are final, and rows that replace what was said of the utterance before."""
        if transcript.settled:
            self._open.pop(transcript.utterance, None)
            return list(_word_rows(transcript)), []
        self._open[transcript.utterance] = transcript
        self._revision += 1
        taken_back: Row = (transcript.utterance, None, "", None, None, None, False)
        return [], [(self._revision, *row) for row in list(_word_rows(transcript)) or [taken_back]]

    def take_open(self) -> list[Row]:
        """The rows of utterances that nobody will close any more."""
        rows = [row for _, said in sorted(self._open.items()) for row in _word_rows(said)]
        self._open.clear()
        return rows


def _word_rows(transcript: Transcript) -> Iterator[Row]:
    for index, word in enumerate(transcript.words):
        yield (
            transcript.utterance,
            index,
            word.text,
            float(word.start_s),
            float(word.end_s),
            None if word.confidence is None else float(word.confidence),
            transcript.settled,
        )


class EventRows:
    """What happened beside the estimates, as rows: told from one status to the next, and from markers."""

    def __init__(self) -> None:
        self._before: Status | None = None

    def changed(
        self, status: Status, at: float, monotonic_offset_s: float, time_s: float | None
    ) -> list[Row]:
        """Phases, health of inputs, rungs and drops that are new in this status."""
        before, self._before = self._before, status
        when = (time_s, at, at - monotonic_offset_s)
        rows: list[Row] = []
        if before is None or before.phase != status.phase:
            rows.append((*when, "phase", "run", status.phase, ""))
        for name, each in status.inputs.items():
            if before is None or before.inputs.get(name) != each:
                said = "; ".join(filter(None, (each.detail, each.way_out)))
                rows.append((*when, "input", name, each.health, hide_credentials(said)))
        rung = status.degraded or NOTHING_SPARED
        if before is not None and rung != (before.degraded or NOTHING_SPARED):
            rows.append((*when, "rung", "run", rung, ""))
        known: Mapping[str, int] = {} if before is None else before.drops
        for name, number in status.drops.items():
            if number > known.get(name, 0):
                rows.append((*when, "drop", name, str(number - known.get(name, 0)), ""))
        return rows

    def marked(self, marker: Marker, monotonic_offset_s: float) -> Row:
        """A marker."""
        at = float(marker.marked_at)
        return (marker.time_s, at, at - monotonic_offset_s, "marker", marker.origin, marker.text, "")
