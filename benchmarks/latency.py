"""From light to message: how long after its capture a frame's provisional estimate reaches a subscriber.

    python benchmarks/latency.py --runs 5

Runs `stream-run` on the demo bundle at 30 frames a second and a real broker (mosquitto) as three processes of
their own, and subscribes: a message's receipt, by this machine's clock, less the capture time that it carries.
The source is the demo recording with its sound, either live (decoded in real time, like a camera: `live`) or
replayed at the pace it plays (`file`). Prints percentiles of each run, what the engine says of itself in
`status`, and the machine's load, without which they mean nothing. Exits with status 1 where a run missed the promise.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import aiomqtt
import numpy as np
import psutil
import typer

from models.machine import load_average, usable_processors
from stream.options import DEMO_RECORDING

if TYPE_CHECKING:
    from collections.abc import Iterator

PROMISED_P99_MS = 100.0
WARM_UP_S = 3.0
START_S = 90.0


@dataclass(frozen=True)
class Run:
    """One run's receipts: latencies in milliseconds, and the last status, which has what the publisher measured.

    `rate` is estimates received a second, `first_s` how long after the process began the first one came.
    """

    latencies_ms: list[float]
    status: dict[str, Any]
    degraded: int
    busy_cores: float
    rate: float
    first_s: float

    @property
    def drops(self) -> dict[str, int]:
        """What the publisher dropped, by cause."""
        return dict(self.status.get("drops", {}))

    def percentile(self, q: float) -> float:
        """A latency that a frame really had."""
        return float(np.percentile(self.latencies_ms, q, method="inverted_cdf"))


@contextmanager
def mosquitto() -> Iterator[int]:
    """A broker on a free port."""
    binary = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if binary is None:
        raise SystemExit("mosquitto is not installed: apt-get install mosquitto")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "mosquitto.conf"
        config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nlog_type error\n")
        running = subprocess.Popen([binary, "-c", str(config)])
        try:
            _until_listening(port)
            yield port
        finally:
            running.terminate()
            running.wait()


def _until_listening(port: int) -> None:
    for _ in range(500):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.01)
    raise SystemExit("mosquitto does not listen")


@contextmanager
def publisher(
    port: int, source: str, options: list[str], name: str = "bench"
) -> Iterator[subprocess.Popen[bytes]]:
    """`stream-run` in a process of its own, publishing as `name`."""
    command = [sys.executable, "-c", "from stream.commands.run import command; command()", source]
    command += ["--broker", f"mqtt://127.0.0.1:{port}", "--id", name, "--view", "none"]
    command += ["--recogniser", "vosk-tiny", *options]
    with tempfile.TemporaryDirectory() as state:
        running = subprocess.Popen(command, env={**os.environ, "XDG_STATE_HOME": state})
        try:
            yield running
        finally:
            running.terminate()
            running.wait()


async def measure(port: int, source: str, seconds: float, options: list[str], *, name: str = "bench") -> Run:
    """Subscribes, then runs the publisher until enough was heard."""
    status: dict[str, Any] = {}
    first_s = float("nan")
    latencies: list[float] = []
    degraded = 0
    cpu_s = started_cpu_s = float("nan")
    began_s: float | None = None
    async with aiomqtt.Client("127.0.0.1", port) as client:
        await client.subscribe(f"affect/{name}/#")
        launched_s = time.time()
        with publisher(port, source, options, name) as running:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds + WARM_UP_S + START_S):
                    async for message in client.messages:
                        at_s = time.time()
                        topic = str(message.topic).rpartition("/")[2]
                        payload = json.loads(message.payload) if topic in ("estimate", "status") else {}
                        if topic == "estimate":
                            if began_s is None:
                                began_s, started_cpu_s = at_s, _cpu_s(running.pid)
                                first_s = at_s - launched_s
                            if at_s - began_s >= WARM_UP_S and payload["latency_ms"] is not None:
                                latencies.append((at_s - payload["captured_at"]) * 1e3)
                                degraded += payload["degraded"] is not None
                        elif topic == "status":
                            status = payload
                        if began_s is not None and at_s - began_s > seconds + WARM_UP_S:
                            break
                        if topic == "available" and message.payload == b"stopped" and not message.retain:
                            break
            cpu_s = _cpu_s(running.pid) - started_cpu_s
            elapsed_s = time.time() - began_s if began_s else float("nan")
    if not latencies:
        raise SystemExit(f"{source} gave no estimates: run stream-run on it to see why")
    rate = len(latencies) / (elapsed_s - WARM_UP_S)
    return Run(latencies, status, degraded, cpu_s / elapsed_s, rate, first_s)


def _cpu_s(pid: int) -> float:
    """User and system time of a process so far; NaN where it is gone."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return float("nan")
    return float(times.user + times.system)


def in_real_time(recording: Path) -> str:
    """A source that decodes a recording with its sound as a camera gives it: in real time, waiting for nobody."""
    return f"lavfi:movie={_escaped(recording)}:s=dv+da[v][a];[v]realtime[out0];[a]arealtime[out1]"


def _escaped(path: Path) -> str:
    """A path within an FFmpeg filter graph."""
    return re.sub(r"([\\':,;\[\]])", r"\\\1", str(path))


def _load() -> str:
    return f"load {load_average():.1f} on {usable_processors()} cores"


def main(
    runs: Annotated[int, typer.Option(min=1, help="How often.")] = 3,
    seconds: Annotated[
        float,
        typer.Option(min=1.0, max=28.0, help="Of each run, after three to warm up; the recording has 32."),
    ] = 25.0,
    source: Annotated[
        Literal["live", "file"], typer.Option(help="How the demo recording comes in.")
    ] = "live",
    budget: Annotated[str, typer.Option(help="As stream-run's.")] = "full",
    bundle: Annotated[str, typer.Option(help="As stream-run's.")] = "demo",
    threads: Annotated[int | None, typer.Option(help="As stream-run's.")] = None,
) -> None:
    """Latency from capture to a subscriber's receipt, over several runs."""
    options = ["--bundle", bundle, *(["--threads", str(threads)] if threads else [])]
    target = str(DEMO_RECORDING)
    if source == "live":
        target = in_real_time(DEMO_RECORDING)
        options += ["--budget", budget]
    found: list[Run] = []
    with mosquitto() as port:
        for number in range(1, runs + 1):
            before = _load()
            run = asyncio.run(measure(port, target, seconds, options))
            found.append(run)
            p50, p95, p99 = (run.percentile(q) for q in (50, 95, 99))
            typer.echo(
                f"run {number}: {len(run.latencies_ms)} estimates, p50 {p50:.1f} p95 {p95:.1f} p99 {p99:.1f} ms; "
                f"status says {run.status.get('latency_ms')}; drops {run.drops or 'none'}; degraded {run.degraded}; "
                f"{run.busy_cores:.2f} cores; {before}"
            )
    for q in (50, 95, 99):
        values = [run.percentile(q) for run in found]
        typer.echo(f"p{q}: median {statistics.median(values):.1f} ms, {min(values):.1f} to {max(values):.1f}")
    kept = sum(run.percentile(99) < PROMISED_P99_MS for run in found)
    verdict = "kept" if kept == runs else "**missed**"
    typer.echo(f"p99 under {PROMISED_P99_MS:g} ms in {kept} of {runs} runs: {verdict}")
    raise typer.Exit(int(kept < runs))


if __name__ == "__main__":
    typer.run(main)
