"""`estimate`: a whole recording at once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from affectstream.background import BackgroundRun
from affectstream.options import SourceOptions, plan_run
from affectstream.results import Result
from models.errors import UserError
from stream.sinks.collect import CollectSink
from stream.sources.open import is_live

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Unpack

PROGRESS_EVERY_S: Final = 0.1
"""How often it is seen how far the run is."""


def estimate(
    recording: str | Path,
    *,
    progress: Callable[[int], None] | None = None,
    **options: Unpack[SourceOptions],
) -> Result:
    """Every frame's settled estimate of a recording: what `stream-run --pace fast --record` writes.

        result = affectstream.estimate("talk.mp4")
        result.values.mean(axis=0)      # mean valence and arousal
        result.plot()

    `progress` is called in this thread, with the number of frames settled so far, for each of them. Raises what it
    raises, and UserError for what a user can mend: no such file, no picture in it, a live source.
    """
    if is_live(str(recording)):
        raise UserError(
            f"'{recording}' is live and has no end: loop over affectstream.stream('{recording}') instead"
        )
    sink = CollectSink()
    background = BackgroundRun(plan_run(recording, "fast", options), [sink])
    background.start()
    told = 0
    try:
        has_ended = False
        while not has_ended:
            has_ended = background.join(None if progress is None else PROGRESS_EVERY_S)
            while progress is not None and told < len(sink.settled):
                told += 1
                progress(told)
    finally:
        background.close()
    if background.error is not None:
        raise background.error
    if not sink.settled or sink.status is None:
        raise UserError(f"{recording} has no frame that could be decoded: is it complete, and a video?")
    return Result(Path(recording).name, tuple(sink.settled), sink.words, sink.status)
