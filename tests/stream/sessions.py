"""Sessions on disk made of scripted estimates, words and markers, in no time."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from stream.messages import Affect, Estimate, InputStatus, Marker, Present, Status, Transcript, TranscriptWord
from stream.options import InputOptions, OutputOptions
from stream.session_folder.facts import Facts, describe
from stream.session_folder.read import SessionFolder, open_session_folder
from stream.session_folder.sink import SessionSink
from stream.sinks.base import Outlet, attached
from stream.sources.events import SourceInfo
from tests.stream.brokers import status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from stream.session_folder.media import MediaKeeper

FOLDS = 2
RATE = 30.0

INFO = SourceInfo("talk.mp4", 64, 48, RATE, 3.0, "h264", "aac", True, None)

WORDS = (
    TranscriptWord("hello", 0.2, 0.5, 0.9),
    TranscriptWord('quite "nice", really', 0.5, 0.8, None),
)


def facts(
    *, source: str = "talk.mp4", live: bool = False, participant: str | None = "P-07", **output: Any
) -> Facts:
    """The facts of a session of a bundle that is not there."""
    manifest = SimpleNamespace(name="demo", preset="compact", trained=True, note="good for tests")
    bundle = SimpleNamespace(manifest=manifest, content_hash="ab" * 32, ensemble=SimpleNamespace(folds=FOLDS))
    return describe(
        InputOptions(source),
        OutputOptions(participant=participant, **output),
        bundle=cast("Any", bundle),
        source=cast("Any", SimpleNamespace(info=INFO, live=live)),
        detector="haar",
        recogniser=None,
        accelerator="eager",
    )


def estimate(frame: int, *, settled: bool, captured_at: float | None = None) -> Estimate:
    """A face throughout, a voice in the first second; the settled value is a tenth above the provisional one."""
    value = -0.5 + frame / 100
    return Estimate(
        frame=frame,
        time_s=frame / RATE,
        captured_at=(1_700_000_000.0 if captured_at is None else captured_at) + frame / RATE,
        value=Affect(value + 0.1 * settled, -value),
        spread=Affect(0.05, 0.1),
        folds=(Affect(value, -value), Affect(value + 0.01, 0.3)),
        present=Present(True, frame < RATE, False),
        settled=settled,
        latency_ms=None if settled else 20.5,
        degraded="half-folds" if frame == 7 else None,
    )


def running(**changes: Any) -> Status:
    """A status in the middle of a run."""
    ok = {
        "camera": InputStatus("ok", "rtsp://me:word@host/cam"),
        "microphone": InputStatus("ok", "a microphone"),
    }
    return replace(status(), phase="running", inputs=ok, drops={}, degraded=None, **changes)


@asynccontextmanager
async def recording(folder: Path, media: MediaKeeper | None = None, **options: Any) -> AsyncIterator[Outlet]:
    """A sink that keeps a session, open; `note_end` is called as a run does."""
    sink = SessionSink(folder, facts(**options), media)
    async with attached([sink]) as outlet:
        outlet.offer_status(running())
        yield outlet
    sink.note_end(None, None, None)


async def keep_session(
    folder: Path, frames: int = 90, *, unsettled: int = 0, **options: Any
) -> SessionFolder:
    """A whole session, read again: the last `unsettled` frames never settle."""
    async with recording(folder, **options) as outlet:
        began = time.time()
        for frame in range(frames):
            outlet.offer(estimate(frame, settled=False, captured_at=began))
            if frame == 20:
                outlet.offer_transcript(Transcript(0, WORDS[:1], False))
            if frame == 30:
                outlet.offer_transcript(Transcript(0, WORDS, True))
                outlet.offer_marker(Marker("a question", began + 1.0, 1.0, "page"))
        for frame in range(frames - unsettled):
            outlet.offer(estimate(frame, settled=True, captured_at=began))
        outlet.offer_marker(Marker('said "stop", left', began + 2.5, 2.5, "terminal"))
        outlet.offer_status(replace(running(), phase="stopped"))
    return open_session_folder(folder)
