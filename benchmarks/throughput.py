"""Frames a second through sight, sound and every fold: by preset, and how cost grows with folds and chunk.

The feature path from crops to folds' estimates, without decoding, face detection or the recogniser:
`benchmarks/latency.py` measures those end to end.
"""

from __future__ import annotations

from pathlib import Path

import torch

from benchmarks.measuring import CAMERA_RATE, Table, Timing, four_cameras, time_in_turns
from models.accelerate import ArtifactCache, Preference, Served, serve
from models.accelerate.machine import has_package
from models.bundle import Bundle, load_bundle
from models.ensemble import EnsembleState
from models.spec import Modality
from models.untrained import make_untrained_bundle


class FramePath:
    """A bundle's frames, a chunk at a time, with the state of one person."""

    def __init__(self, bundle: Bundle, served: Served, chunk: int) -> None:
        self._ensemble, self._served = bundle.ensemble, served
        self._crops = bundle.probe["crops"].repeat(chunk, 1, 1, 1)[:chunk].contiguous()
        self._patches = bundle.probe["patches"].repeat(chunk, 1, 1)[:chunk].contiguous()
        self._words = bundle.probe["language"][:1].expand(1, 1, chunk, -1)
        self._state: EnsembleState = self._ensemble.initial_states(1)

    @torch.inference_mode()
    def run(self) -> None:
        """One chunk, embedded together and run together through all folds."""
        visual, audio = self._served.embed(self._crops, self._patches)
        chunk = {
            Modality.VISUAL: visual.unsqueeze(1),
            Modality.AUDIO: audio[None, None],
            Modality.LANGUAGE: self._words,
        }
        self._state, _ = self._ensemble.run(chunk, self._state)


def measure(
    bundle: Bundle,
    preference: Preference,
    chunks: tuple[int, ...],
    threads: int,
    cache: ArtifactCache,
    rounds: int,
) -> list[tuple[float, list[str]]]:
    """Frames a second, and its row, of each chunk size of one bundle, timed in turns."""
    served = {
        c: serve(bundle, preference=preference, cache=cache, threads=threads, batches=(c,)) for c in chunks
    }
    paths = {str(c): FramePath(bundle, s, c) for c, s in served.items()}
    times = time_in_turns({c: path.run for c, path in paths.items()}, rounds=rounds)
    rows = []
    for c in chunks:
        frame = Timing(tuple(ms / c for ms in times[str(c)].ms))
        rate = 1e3 / frame.median
        cameras = int(rate // CAMERA_RATE)
        name = bundle.manifest.name
        rows.append((rate, [name, served[c].name, str(c), str(frame), f"{rate:.0f}", str(cameras)]))
    return rows


def run(*, quick: bool, threads: int, folder: Path, cache: ArtifactCache) -> Table:
    """The table; `quick` leaves out the paper preset."""
    found: list[tuple[float, list[str]]] = []
    preferences = [Preference("eager"), Preference()]
    if has_package("openvino") and has_package("nncf"):
        preferences.append(Preference("openvino", "int8"))
    rounds = 7 if quick else 25
    for preset in ("compact",) if quick else ("compact", "paper"):
        for folds in (1, 6):
            name = f"{preset}-{folds}"
            make_untrained_bundle(folder / name, preset, folds)
            bundle = load_bundle(folder / name)
            for preference in preferences:
                found += measure(bundle, preference, (1, 3, 8), threads, cache, rounds)
    rate, (_, route, chunk, *_) = max(item for item in found if item[1][0] == "compact-6")
    return Table(
        "Frames a second from crops and patches to every fold's estimates",
        (
            "bundle (preset-folds)",
            "route",
            "frames a chunk",
            "ms a frame: median (p10 to p90)",
            "frames/s",
            "cameras at 30",
        ),
        [row for _, row in found],
        (
            "One process, one stream of calls; `cameras` is whole cameras that this part of the work keeps up with.",
            four_cameras(f"Of crops and patches, by {route}, {chunk} a chunk", rate),
        ),
    )
