"""Everything at once: whole recordings through the engine itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import cv2
import torch

from models.errors import UserError
from offline.judging.live_path import ItemEstimate, JudgeOptions, mean_estimate
from stream.broker.connection import run
from stream.build import assemble, load
from stream.options import InputOptions
from stream.sinks.collect import CollectSink

if TYPE_CHECKING:
    from pathlib import Path

SUFFIXES: Final = (".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv")
"""What counts as a recording in a folder."""


def find_clips(places: tuple[Path, ...]) -> tuple[Path, ...]:
    """The recordings named, and those in the folders named, each once, in order.

    Raises UserError for a place that is not there, and for a folder without any.
    """
    found: dict[Path, None] = {}
    for place in places:
        if place.is_file():
            found[place] = None
            continue
        if not place.is_dir():
            raise UserError(f"{place} does not exist: give a recording, or a folder of recordings")
        inside = sorted(path for path in place.iterdir() if path.suffix.lower() in SUFFIXES)
        if not inside:
            raise UserError(
                f"{place} holds no recording: no file ending in {', '.join(SUFFIXES)}",
                way_out="give the folder that they lie in, without folders between",
            )
        found.update(dict.fromkeys(inside))
    return tuple(found)


def use_one_thread(options: JudgeOptions) -> JudgeOptions:
    """For a worker process, since others work beside it; an engine loads its own parts."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    return options


def estimate_clip(options: JudgeOptions, clip: Path) -> ItemEstimate:
    """A recording as `stream-run --pace fast` takes it, in eager float32: the mean over all settled frames.

    Raises UserError as the engine does, and where there is no frame.
    """
    parts = load(
        InputOptions(
            source=str(clip),
            bundle=options.bundle,
            pace="fast",
            detector=options.detector,
            recogniser=options.recogniser,
        )
    )
    sink = CollectSink()
    try:
        run(assemble(parts, [sink], pace="fast").run())
    finally:
        parts.source.close()
    if not sink.settled:
        raise UserError(f"{clip} has no frame that could be decoded", way_out="get it again, or take it out")
    present = any(e.present.face or e.present.voice for e in sink.settled)
    return mean_estimate(sink.settled, present=present)
