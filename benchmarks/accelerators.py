"""Accelerators beside eager: every route that this machine can take, in turns, with what the parity gate said."""

from __future__ import annotations

from pathlib import Path

from benchmarks.measuring import Table, Timing, in_turns, ratio, time_in_turns
from models.accelerate import ArtifactCache, Preference, Served, serve
from models.accelerate.machine import has_cuda, has_package
from models.accelerate.route import BACKENDS, OFFERED, Route
from models.accelerate.served import PartReport
from models.bundle import Bundle, load_bundle
from models.language.pieces import open_text_model
from models.untrained import make_untrained_bundle


def routes(*, compile_too: bool) -> list[Route]:
    """What is worth trying here."""
    wanted = {"openvino": has_package("openvino"), "compile": compile_too, "cuda": has_cuda()}
    wanted["tensorrt"] = has_cuda() and has_package("torch_tensorrt")
    return [Route(b, p) for b in BACKENDS if wanted.get(b, False) for p in OFFERED[b]]


def measure(
    bundle: Bundle, batch: int, threads: int, cache: ArtifactCache, *, rounds: int, compile_too: bool
) -> list[list[str]]:
    """Rows of one bundle at one batch size: milliseconds a frame of sight and sound, ratios to eager."""
    crops = bundle.probe["crops"].repeat(batch, 1, 1, 1)[:batch].contiguous()
    patches = bundle.probe["patches"].repeat(batch, 1, 1)[:batch].contiguous()
    model = None
    if bundle.text_encoder_folder is not None:
        model, _ = open_text_model(bundle.text_encoder_folder, "encoder")
    served: dict[str, Served] = {"eager": serve(bundle, preference=Preference("eager"), batches=(batch,))}
    for route in routes(compile_too=compile_too):
        found = serve(
            bundle,
            preference=Preference(route.backend, route.precision),
            text_model=model if batch == 1 and route.precision != "int8" else None,
            cache=cache,
            threads=threads,
            batches=(batch,),
        )
        served[str(route)] = found
    rows: list[list[str]] = []
    for part in ("visual", "audio"):
        calls = {
            name: (lambda s=s: s.embed_visual(crops))
            if part == "visual"
            else (lambda s=s: s.embed_audio(patches))
            for name, s in served.items()
            if name == "eager" or _report(s, part).route.backend != "eager"
        }
        times = time_in_turns(calls, rounds=rounds)
        for name, s in served.items():
            rows.append(_row(bundle, part, batch, name, times, _report(s, part)))
    return rows


def _report(served: Served, part: str) -> PartReport:
    return next(r for r in served.reports if r.part == part)


def _row(
    bundle: Bundle, part: str, batch: int, name: str, times: dict[str, Timing], report: PartReport
) -> list[str]:
    head = [bundle.manifest.name, part, str(batch), name]
    if name not in times:
        return [*head, "does not serve", "", "; ".join(report.notes)]
    frame = Timing(tuple(ms / batch for ms in times[name].ms))
    against = ratio(times["eager"], times[name])
    return [
        *head,
        str(frame),
        f"**{against.median:.2f} x**",
        "" if report.agreement is None else str(report.agreement),
    ]


def run(*, quick: bool, threads: int, folder: Path, cache: ArtifactCache) -> Table:
    """The table; `quick` leaves out the paper preset and torch.compile, which takes long to compile."""
    rows: list[list[str]] = []
    for name in ("compact",) if quick else ("compact", "paper"):
        make_untrained_bundle(folder / name, name)
        bundle = load_bundle(folder / name)
        for batch in (1, 8):
            rows += measure(bundle, batch, threads, cache, rounds=7 if quick else 25, compile_too=not quick)
    return Table(
        "Accelerators beside eager",
        (
            "preset",
            "part",
            "frames a call",
            "route",
            "ms a frame: median (p10 to p90)",
            "faster than eager",
            "parity",
        ),
        rows,
        (
            in_turns("The routes of a part at one number of frames"),
            "Six untrained folds that share a trunk. A route that disagrees with eager on the probe does not serve.",
        ),
    )
