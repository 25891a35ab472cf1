"""Accelerators beside eager: every back-end that this machine can take, in turns, with what the parity gate said."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.measuring import Table, Timing, in_turns, ratio, time_in_turns
from benchmarks.naive import count_flops
from benchmarks.peak import SIDE, Device, measure_peaks
from models.accelerate.backend import BACKENDS, OFFERED, Backend, Precision
from models.accelerate.hardware import has_cuda, has_package
from models.accelerate.select import Preference, serve
from models.bundle.load import Bundle, load_bundle
from models.bundle.untrained import make_untrained_bundle
from models.text.loading import open_text_model

if TYPE_CHECKING:
    from pathlib import Path

    from models.accelerate.cache import ArtifactCache
    from models.accelerate.runtime import PartReport, Runtime

Peaks = Mapping[tuple[Device, Precision], float]
"""Gop/s."""


def backends(*, compile_too: bool) -> list[Backend]:
    """What is worth trying here."""
    wanted = {"openvino": has_package("openvino"), "compile": compile_too, "cuda": has_cuda()}
    wanted["tensorrt"] = has_cuda() and has_package("torch_tensorrt")
    return [Backend(b, p) for b in BACKENDS if wanted.get(b, False) for p in OFFERED[b]]


def measure(
    bundle: Bundle,
    batch: int,
    threads: int,
    cache: ArtifactCache,
    peaks: Peaks,
    *,
    rounds: int,
    compile_too: bool,
) -> list[list[str]]:
    """Rows of one bundle at one batch size: milliseconds a frame of sight and sound, ratios to eager and to the
    machine's peak.
    """
    crops = bundle.probe["crops"].repeat(batch, 1, 1, 1)[:batch].contiguous()
    patches = bundle.probe["patches"].repeat(batch, 1, 1)[:batch].contiguous()
    model = None
    if bundle.text_encoder_folder is not None:
        model, _ = open_text_model(bundle.text_encoder_folder, "encoder")
    runtimes: dict[str, Runtime] = {"eager": serve(bundle, preference=Preference("eager"), batches=(batch,))}
    for backend in backends(compile_too=compile_too):
        found = serve(
            bundle,
            preference=Preference(backend.name, backend.precision),
            text_model=model if batch == 1 and backend.precision != "int8" else None,
            cache=cache,
            threads=threads,
            batches=(batch,),
        )
        runtimes[str(backend)] = found
    rows: list[list[str]] = []
    for part in ("visual", "audio"):
        calls = {
            name: (lambda s=s: s.embed_visual(crops))
            if part == "visual"
            else (lambda s=s: s.embed_audio(patches))
            for name, s in runtimes.items()
            if name == "eager" or _report(s, part).backend.name != "eager"
        }
        assert bundle.audio_encoder is not None
        eager = (
            partial(bundle.ensemble.embed_visual, crops)
            if part == "visual"
            else partial(bundle.audio_encoder, patches)
        )
        flops = count_flops(eager) / batch
        times = time_in_turns(calls, rounds=rounds)
        for name, s in runtimes.items():
            report = _report(s, part)
            head = [bundle.manifest.name, part, str(batch), name]
            rows.append(head + _result_cells(times, name, batch, flops, peaks, report))
    return rows


def share_of_peak(flops: float, ms: float, backend: Backend, peaks: Peaks) -> str:
    """How much of the peak of a back-end's device and precision so many operations in so many milliseconds are."""
    peak = peaks.get(("cuda" if backend.name in ("cuda", "tensorrt") else "cpu", backend.precision))
    return "" if peak is None else f"{100 * flops / ms / 1e6 / peak:.0f} %"


def _report(runtime: Runtime, part: str) -> PartReport:
    return next(r for r in runtime.reports if r.part == part)


def _result_cells(
    times: dict[str, Timing], name: str, batch: int, flops: float, peaks: Peaks, report: PartReport
) -> list[str]:
    if name not in times:
        return ["does not serve", "", "", "; ".join(report.notes)]
    frame = Timing(tuple(ms / batch for ms in times[name].ms))
    return [
        str(frame),
        f"**{ratio(times['eager'], times[name]).median:.2f} x**",
        share_of_peak(flops, frame.median, report.backend, peaks),
        "" if report.agreement is None else str(report.agreement),
    ]


def run(*, quick: bool, threads: int, folder: Path, cache: ArtifactCache) -> Table:
    """The table; `quick` leaves out the paper preset and torch.compile, which takes long to compile."""
    rows: list[list[str]] = []
    peaks = measure_peaks(threads, rounds=3 if quick else 15)
    for name in ("compact",) if quick else ("compact", "paper"):
        make_untrained_bundle(folder / name, name)
        bundle = load_bundle(folder / name)
        for batch in (1, 8):
            rounds = 7 if quick else 25
            rows += measure(bundle, batch, threads, cache, peaks, rounds=rounds, compile_too=not quick)
    told = ", ".join(f"{device} {precision} {peak:.0f} Gop/s" for (device, precision), peak in peaks.items())
    return Table(
        "Accelerators beside eager",
        (
            "preset",
            "part",
            "frames a call",
            "back-end",
            "ms a frame: median (p10 to p90)",
            "faster than eager",
            "of the measured peak",
            "parity",
        ),
        rows,
        (
            in_turns("The back-ends of a part at one number of frames"),
            "Six untrained folds that share a trunk. A back-end that disagrees with eager on the probe input is left "
            "out.",
            f"The peak of a precision is the best of a few matrix products of {SIDE} x {SIDE} in this run, whatever "
            f"computes them: {told}. A part's FLOPs are those of its matrix products and convolutions.",
        ),
    )
