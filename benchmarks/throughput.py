"""Frames a second through sight, sound and every fold: by preset, and how cost grows with folds and chunk.

The feature path from crops to folds' estimates, without decoding, face detection or the recogniser:
`benchmarks/latency.py` measures those end to end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from benchmarks.measuring import CAMERA_RATE, Table, Timing, four_cameras, in_turns, time_in_turns
from models.accelerate.hardware import has_package
from models.accelerate.select import Preference, serve
from models.accelerate.steps import SENSES
from models.bundle.load import Bundle, load_bundle
from models.bundle.untrained import make_untrained_bundle
from models.spec import Modality

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from models.accelerate.cache import ArtifactCache
    from models.accelerate.runtime import Runtime
    from models.networks.ensemble import BranchState


class FramePath:
    """A bundle's frames, a chunk at a time, with the state of one person."""

    def __init__(self, bundle: Bundle, runtime: Runtime, chunk: int) -> None:
        self._ensemble, self._runtime = bundle.ensemble, runtime
        self._crops = bundle.probe["crops"].repeat(chunk, 1, 1, 1)[:chunk].contiguous()
        self._patches = bundle.probe["patches"].repeat(chunk, 1, 1)[:chunk].contiguous()
        self._words = bundle.probe["language"][:1].expand(1, 1, chunk, -1)
        self._available = torch.ones(1, chunk, len(bundle.ensemble.modalities), dtype=torch.bool)
        self._branches = {m: bundle.ensemble.initial_state(m, 1) for m in SENSES}
        self._language: BranchState | None = bundle.ensemble.initial_state(Modality.LANGUAGE, 1)

    @torch.inference_mode()
    def run(self) -> None:
        """One chunk, embedded together and run together through all folds."""
        steps = self._runtime.steps
        sound = self._runtime.start_audio(self._patches)
        visual, audio = self._runtime.embed_visual(self._crops), sound()
        self._branches, encodings = steps.sense(
            self._ensemble,
            {Modality.VISUAL: visual.unsqueeze(1), Modality.AUDIO: audio[None, None]},
            self._branches,
            dict.fromkeys(SENSES, self._available[..., 0]),
        )
        self._language, _ = steps.fuse(encodings, self._available, self._language, self._words)


def measure(
    bundle: Bundle,
    preferences: Sequence[Preference],
    chunk: int,
    threads: int,
    cache: ArtifactCache,
    rounds: int,
) -> list[tuple[float, list[str]]]:
    """Frames a second, and its row, of each preference for one bundle at one chunk size, timed in turns."""
    runtimes = {
        str(p): serve(bundle, preference=p, cache=cache, threads=threads, batches=(chunk,))
        for p in preferences
    }
    paths = {name: FramePath(bundle, s, chunk) for name, s in runtimes.items()}
    times = time_in_turns({name: path.run for name, path in paths.items()}, rounds=rounds)
    rows = []
    for name, s in runtimes.items():
        frame = Timing(tuple(ms / chunk for ms in times[name].ms))
        rate = 1e3 / frame.median
        cameras = int(rate // CAMERA_RATE)
        cells = [bundle.manifest.name, name, s.name, str(chunk), str(frame), f"{rate:.0f}", str(cameras)]
        rows.append((rate, cells))
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
            for chunk in (1, 3, 8):
                found += measure(bundle, preferences, chunk, threads, cache, rounds)
    rate, (_, _, backend, at_once, *_) = max(item for item in found if item[1][0] == "compact-6")
    return Table(
        "Frames a second from crops and patches to every fold's estimates",
        (
            "bundle (preset-folds)",
            "--accelerator",
            "back-end",
            "frames a chunk",
            "ms a frame: median (p10 to p90)",
            "frames/s",
            "cameras at 30",
        ),
        [row for _, row in found],
        (
            in_turns("The back-ends of a bundle at one chunk size"),
            "One process, one stream of calls; `cameras` is whole cameras that this part of the work keeps up with.",
            four_cameras(f"Of crops and patches, by {backend}, {at_once} a chunk", rate),
        ),
    )
