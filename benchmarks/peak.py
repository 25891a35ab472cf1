"""What this machine can do at most, measured: large matrix products and a convolution, by precision."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from benchmarks.measuring import Table, Timing, time_in_turns
from models.accelerate.backend import OFFERED, Backend, BuildContext, Precision, Unavailable
from models.accelerate.backends.compiled import DTYPES
from models.accelerate.build import accelerate
from models.accelerate.hardware import has_cpu_bfloat16, has_cuda

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SIDE = 2048
_CONV = (64, 128, 20, 3)  # frames, channels, map side, kernel: the middle of IR-50

Device = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Work:
    """Something to do at a precision; `operations` counts a product and its sum as two."""

    device: Device
    precision: Precision
    operations: float
    call: Callable[[], object]


def rate(work: Work, ms: float) -> float:
    """Operations in so many milliseconds, as Gop/s."""
    return work.operations / ms / 1e6


def products(threads: int) -> dict[str, Work]:
    """A large matrix product in each way that there is here: by PyTorch, by OpenVINO, on an NVIDIA GPU.

    On the CPU PyTorch's int8 is left out, which is not made for speed, and bfloat16 where it is emulated.
    """
    a, b = torch.rand(SIDE, SIDE), torch.rand(SIDE, SIDE)
    what, operations = f"product of {SIDE} x {SIDE}", 2.0 * SIDE**3

    def work(device: Device, precision: Precision, call: Callable[[], object]) -> Work:
        return Work(device, precision, operations, call)

    found = {f"{what}, float32, PyTorch": work("cpu", "float32", lambda: a @ b)}
    if has_cpu_bfloat16():
        low_a, low_b = a.bfloat16(), b.bfloat16()
        found[f"{what}, bfloat16, PyTorch"] = work("cpu", "bfloat16", lambda: low_a @ low_b)
    linear = nn.Linear(SIDE, SIDE, bias=False).requires_grad_(False)
    for precision in OFFERED["openvino"]:
        context = BuildContext(threads=threads, calibration=[(a,)])
        with suppress(Unavailable):
            runner = accelerate(linear, (a,), Backend("openvino", precision), context)
            found[f"{what}, {precision}, OpenVINO"] = work("cpu", precision, partial(runner, a))
    if has_cuda():
        for precision in OFFERED["cuda"]:
            found[f"{what}, {precision}, CUDA"] = work("cuda", precision, _on_cuda(a, b, precision))
    return found


def measure_peaks(threads: int, *, rounds: int) -> dict[tuple[Device, Precision], float]:
    """The most that a product reached of each device and precision, in Gop/s."""
    works = products(threads)
    return peaks_of(works, time_in_turns({name: w.call for name, w in works.items()}, rounds=rounds))


def peaks_of(works: Mapping[str, Work], times: Mapping[str, Timing]) -> dict[tuple[Device, Precision], float]:
    """The best of each device and precision, in Gop/s."""
    found: dict[tuple[Device, Precision], float] = {}
    for name, work in works.items():
        where = work.device, work.precision
        found[where] = max(found.get(where, 0.0), rate(work, min(times[name].ms)))
    return found


def run(*, quick: bool, threads: int) -> Table:
    """The table: operations a second at best and in the middle."""
    works = products(threads) | _convolutions()
    times = time_in_turns({name: w.call for name, w in works.items()}, rounds=3 if quick else 15)
    rows = [
        [name, f"{rate(w, times[name].median):.0f}", f"{rate(w, min(times[name].ms)):.0f}"]
        for name, w in works.items()
    ]
    return Table(
        "The machine's peak",
        ("what", "Gop/s, median", "Gop/s, best"),
        rows,
        ("All were timed in turns in one run.",),
    )


def _convolutions() -> dict[str, Work]:
    frames, channels, side, kernel = _CONV
    operations = 2.0 * frames * (channels * side * kernel) ** 2
    x = torch.rand(frames, channels, side, side).contiguous(memory_format=torch.channels_last)
    found: dict[str, Work] = {}
    precisions: tuple[Precision, ...] = ("float32", "bfloat16") if has_cpu_bfloat16() else ("float32",)
    for precision in precisions:
        conv = nn.Conv2d(channels, channels, kernel, padding=1, bias=False).requires_grad_(False)
        conv = conv.to(DTYPES[precision]).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        call = partial(conv, x.to(DTYPES[precision]))
        found[f"convolution {kernel} x {kernel}, {precision}, PyTorch"] = Work(
            "cpu", precision, operations, call
        )
    return found


def _on_cuda(a: Tensor, b: Tensor, precision: Precision) -> Callable[[], object]:
    there_a, there_b = (x.cuda().to(DTYPES[precision]) for x in (a, b))

    def call() -> None:
        there_a @ there_b
        torch.cuda.synchronize()

    return call
