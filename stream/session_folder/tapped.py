"""A source whose events somebody else is shown too, on their way to the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from stream.messages import InputStatus
    from stream.sources.events import Source, SourceEvent, SourceInfo


class TappedSource:
    """The `source`, each of whose events `tap` is given before the engine gets it; in the source's own thread.

    A tap on a live source has to return at once.
    """

    def __init__(self, source: Source, tap: Callable[[SourceEvent], None]) -> None:
        self._source = source
        self._tap = tap

    @property
    def info(self) -> SourceInfo:
        """What it is."""
        return self._source.info

    @property
    def live(self) -> bool:
        """Whether events come when they happen."""
        return self._source.live

    @property
    def counters(self) -> Mapping[str, int]:
        """The source's."""
        return self._source.counters

    @property
    def measures(self) -> Mapping[str, float]:
        """The source's."""
        return self._source.measures

    @property
    def inputs(self) -> Mapping[str, InputStatus]:
        """The source's."""
        return self._source.inputs

    def events(self) -> Iterator[SourceEvent]:
        """The source's events, each shown to the tap first."""
        produced = self._source.events()
        try:
            for event in produced:
                self._tap(event)
                yield event
        finally:
            close = getattr(produced, "close", None)
            if close is not None:
                close()

    def close(self) -> None:
        """Closes the source."""
        self._source.close()
