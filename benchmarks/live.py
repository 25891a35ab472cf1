"""Whole engines end to end: cameras side by side, the published ensemble live, replay speed, and a cold start.

    python -m benchmarks.live [--only cameras,paper,replay,start] [--clip RECORDING] [--quick]

Every engine is `stream-run` in a process of its own, with face detection, log-mel, recogniser, a real broker and
a subscriber that takes the time. `paper` has the report's full-size networks with random weights.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.latency import Run, in_real_time, measure, mosquitto
from benchmarks.measuring import CAMERA_RATE, Table, describe_machine, four_cameras
from models.accelerate.backends import openvino
from models.bundle.untrained import make_untrained_bundle
from models.centering import ccc
from models.spec import TARGETS
from models.text.small_bert import BASE
from stream.flow.ladder import AUTO, FULL, RUNGS
from stream.options import DEMO_BUNDLE, DEMO_RECORDING, InputOptions, OutputOptions
from stream.session import stream, use_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LEAST_CCC = 0.99
MOST_P99_MS = 150.0


def long_recording(clip: Path, seconds: float, folder: Path) -> Path:
    """The clip over and over, at 30 frames a second. Needs the `ffmpeg` program."""
    if shutil.which("ffmpeg") is None:
        raise SystemExit("ffmpeg is not installed: apt-get install ffmpeg")
    made = folder / f"{clip.stem}-{seconds:g}s.mp4"
    command = ["ffmpeg", "-v", "error", "-y", "-stream_loop", "-1", "-i", str(clip), "-t", str(seconds)]
    command += ["-r", "30", "-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-pix_fmt", "yuv420p"]
    subprocess.run([*command, "-c:a", "aac", str(made)], check=True)
    return made


def real_clip() -> Path:
    """A real recording of a person speaking, where the fixtures are; else the demo's, which is performed."""
    root = Path(__file__).parent.parent.parent
    folder = Path(os.environ.get("AFFECT_FIXTURES", root / "shared" / "fixtures"))
    clip = folder / "clips" / "weekly_address_5s.mp4"
    return clip if clip.is_file() else DEMO_RECORDING


def cameras(folder: Path, clip: Path, *, quick: bool) -> Table:
    """One, two and four engines at once on the demo bundle, each with a live source of its own; four also with the
    ladder allowed.
    """
    rows, fullest = [], (0.0, "")
    for count, budget in ((1, FULL.name), (2, FULL.name), (4, FULL.name), (4, AUTO)):
        for accelerator in ("eager", "auto"):
            options = ["--bundle", "demo", "--budget", budget, "--accelerator", accelerator]
            runs = asyncio.run(_at_once(count, options, 8 if quick else 25))
            rate, backend = sum(r.rate for r in runs), str(runs[0].status.get("accelerator", ""))
            if (count, budget) == (4, FULL.name):
                fullest = max(fullest, (rate, f"In all, of four cameras with nothing spared, by {backend}"))
            rows.append(
                [
                    str(count),
                    backend,
                    budget,
                    rungs(runs),
                    f"{rate:.1f}",
                    f"{min(r.rate for r in runs):.1f}",
                    *(f"{max(r.percentile(q) for r in runs):.0f}" for q in (50, 95, 99)),
                    str(sum(sum(r.drops.values()) for r in runs)),
                    f"{sum(r.busy_cores for r in runs):.2f}",
                ]
            )
    return Table(
        "Cameras at once: an engine each, demo bundle",
        (
            "cameras",
            "accelerator",
            "--budget",
            "rung in the end",
            "frames/s in all",
            "of the slowest",
            "p50 ms",
            "p95",
            "p99, of the worst",
            "drops",
            "cores busy",
        ),
        rows,
        (
            "From capture to the subscriber's receipt. Each engine has its own 30 frames a second with sound, which "
            "come as they would from a camera: nobody can take more, and the promise is judged to one in a hundred.",
            four_cameras(fullest[1], fullest[0], slack=0.01),
        ),
    )


def rungs(runs: Sequence[Run]) -> str:
    """On which rungs of the ladder the engines stood at the end, and how many of several on each."""
    stood = Counter(str(run.status.get("degraded") or FULL.name) for run in runs)
    if len(stood) == 1:
        return next(iter(stood))
    return ", ".join(f"{number} x {rung.name}" for rung in RUNGS if (number := stood[rung.name]))


async def _at_once(count: int, options: list[str], seconds: float) -> list[Run]:
    source = in_real_time(DEMO_RECORDING)
    with mosquitto() as port:
        waiting = [measure(port, source, seconds, options, name=f"bench{n}") for n in range(count)]
        return await asyncio.gather(*waiting)


def paper(folder: Path, clip: Path, *, quick: bool) -> Table:
    """The full-size six-fold ensemble at live pace, and how its settled estimates agree with eager float32's."""
    make_untrained_bundle(folder / "paper", "paper", 6, text=BASE)
    seconds = 20.0 if quick else 60.0
    recording = long_recording(clip, seconds, folder)
    rows = []
    low = ("openvino:bfloat16", "openvino:int8") if openvino.has_bfloat16() else ("openvino:int8",)
    for bundle, accelerators in (
        (str(folder / "paper"), low),
        ("demo", ("openvino:float32", *low)),
    ):
        reference = folder / "eager.jsonl"
        run_to_end(recording, bundle, ["--pace", "fast", "--accelerator", "eager"], reference)
        for accelerator in accelerators:
            record = folder / "fast.jsonl"
            options = ["--bundle", bundle, "--pace", "live", "--accelerator", accelerator]
            options += ["--record", str(record), "--overwrite"]
            with mosquitto() as port:
                run = asyncio.run(measure(port, str(recording), seconds + 60, options))
            agreed = agreement(reference, record)
            kept = run.percentile(99) < MOST_P99_MS and min(agreed) >= LEAST_CCC and not run.drops
            kept = kept and run.status.get("frames", 0) >= seconds * CAMERA_RATE - 1
            rows.append(
                [
                    Path(bundle).name,
                    str(run.status.get("accelerator", "")),
                    f"{run.status.get('frames', 0)} of {seconds * CAMERA_RATE:g}",
                    str(sum(run.drops.values())),
                    *(f"{run.percentile(q):.0f}" for q in (50, 95, 99)),
                    f"{run.busy_cores:.2f}",
                    *(f"{c:.4f}" for c in agreed),
                    "kept" if kept else "**missed**",
                ]
            )
    return Table(
        f"Six folds live: {seconds:g} s of {clip.name} over and over, `--pace live`, beside eager float32",
        (
            "bundle",
            "accelerator",
            "frames",
            "drops",
            "p50 ms",
            "p95",
            "p99",
            "cores busy",
            *(f"CCC {t} with eager" for t in TARGETS),
            f"p99 < {MOST_P99_MS:g} ms, CCC >= {LEAST_CCC:g}, no drops",
        ),
        rows,
        (
            "`paper` has random weights, and a text encoder of BERT base's shape. CCC is between settled estimates "
            "and those of a replay in eager float32. A recording never loses a frame; where the machine is too slow "
            "it falls behind, which latency shows, and is stopped a minute after the recording should have ended.",
        ),
    )


def agreement(reference: Path, record: Path) -> list[float]:
    """CCC per target between the settled estimates of two records of one recording, as far as the second one came."""
    theirs, ours = (_values(path) for path in (reference, record))
    if len(ours) > len(theirs):
        raise SystemExit(f"{record} has {len(ours)} settled estimates, the reference {len(theirs)}")
    return [float(ccc(ours[:, k], theirs[: len(ours), k])) for k in range(len(TARGETS))]


def _values(record: Path) -> np.ndarray:
    lines = [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]
    return np.array([[e["valence"], e["arousal"]] for e in lines if "valence" in e])


def run_to_end(recording: Path, bundle: str, options: list[str], record: Path) -> None:
    """One `stream-run` to its end, writing its record."""
    command = [sys.executable, "-c", "from stream.commands.run import command; command()", str(recording)]
    command += ["--bundle", bundle, "--view", "none", "--recogniser", "vosk-tiny", "--broker", "none"]
    subprocess.run([*command, *options, "--record", str(record), "--overwrite"], check=True)


def replay(folder: Path, clip: Path, *, quick: bool) -> Table:
    """Frames a second of a long recording as fast as it goes, in one process after another."""
    recording = long_recording(DEMO_RECORDING, 32.0 if quick else 192.0, folder)
    rows, fastest = [], (0.0, "")
    cases = [(a, t) for a in ("eager", "auto", "openvino:int8") for t in (0.0, 70.0, 500.0)]
    for accelerator, target in cases:
        rates = [_rate(recording, accelerator, target) for _ in range(1 if quick else 3)]
        rate = statistics.median(rates)
        fastest = max(
            fastest, (rate, f"From a file to settled estimates, by {accelerator}, target {target:g} ms")
        )
        rows.append(
            [
                accelerator,
                f"{target:g}",
                f"{rate:.0f} ({min(rates):.0f} to {max(rates):.0f})",
                f"{rate / CAMERA_RATE:.1f} x",
            ]
        )
    return Table(
        "Replay at `--pace fast`: the whole engine, demo bundle, decoding to settled estimates",
        ("--accelerator", "--latency-target", "frames/s: median (range)", "real time"),
        rows,
        (
            f"A recording of {'32' if quick else '192'} s, loading left out.",
            four_cameras(fastest[1], fastest[0]),
        ),
    )


def _rate(recording: Path, accelerator: str, target: float) -> float:
    """In a process of its own: thread counts are set once in each."""
    code = (
        "import sys; from benchmarks.live import replay_once; "
        "print(replay_once(sys.argv[1], sys.argv[2], float(sys.argv[3])))"
    )
    command = [sys.executable, "-c", code, str(recording), accelerator, str(target)]
    root = Path(__file__).parent.parent
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def replay_once(recording: str, accelerator: str, latency_target_ms: float) -> float:
    """Frames a second of one replay in this process."""
    choices = InputOptions(
        recording,
        bundle=DEMO_BUNDLE,
        pace="fast",
        recogniser="vosk-tiny",
        accelerator=accelerator,
        latency_target_ms=latency_target_ms,
    )
    use_threads(1)
    summary = asyncio.run(stream(choices, OutputOptions(view="none")))
    return summary.frames / summary.duration_s


def start(folder: Path, clip: Path, *, quick: bool) -> Table:
    """From the start of the process to the first estimate at a subscriber."""
    rows = []
    for accelerator in ("eager", "auto"):
        seconds = []
        for _ in range(2 if quick else 6):
            with mosquitto() as port:
                options = ["--bundle", "demo", "--accelerator", accelerator]
                run = asyncio.run(measure(port, in_real_time(DEMO_RECORDING), 1.0, options))
            seconds.append(run.first_s)
        del seconds[0]  # it chose and compiled, and filled the cache
        spread = f"{statistics.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})"
        rows.append([accelerator, spread])
    return Table(
        "Cold start: process start to the first estimate received, live source",
        ("--accelerator", "s: median (range)"),
        rows,
        ("`auto` with its choice and its compiled networks already in the cache.",),
    )


PARTS: dict[str, Callable[..., Table]] = {
    "cameras": cameras,
    "paper": paper,
    "replay": replay,
    "start": start,
}


def main() -> int:
    """Print the tables asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default=",".join(PARTS), help="which, separated by commas")
    parser.add_argument("--clip", type=Path, default=real_clip(), help="what `paper` looks at")
    parser.add_argument("--quick", action="store_true", help="short runs")
    options = parser.parse_args()
    if unknown := sorted(set(options.only.split(",")) - set(PARTS)):
        parser.error(f"there is no part '{unknown[0]}': choose from {', '.join(PARTS)}")
    print(describe_machine(), flush=True)
    missed = False
    with tempfile.TemporaryDirectory() as temporary:
        os.environ.setdefault("AFFECT_CACHE", str(Path(temporary) / "cache"))
        for name in options.only.split(","):
            table = PARTS[name](Path(temporary), options.clip, quick=options.quick)
            text = table.to_markdown()
            missed |= "**missed**" in text
            print(f"\n{text}", flush=True)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
