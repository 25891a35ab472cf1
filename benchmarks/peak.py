"""What this machine can do at most, measured: large matrix products and a convolution, by precision."""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks.measuring import Table, time_in_turns

SIDE = 2048
_CONV = (64, 128, 20, 3)  # frames, channels, map side, kernel: the middle of IR-50


def _products() -> dict[str, tuple[float, Callable[[], object]]]:
    """Operations and call, by name."""
    a, b = torch.rand(SIDE, SIDE), torch.rand(SIDE, SIDE)
    low_a, low_b = a.bfloat16(), b.bfloat16()
    frames, channels, side, kernel = _CONV
    x = torch.rand(frames, channels, side, side).contiguous(memory_format=torch.channels_last)
    conv = torch.nn.Conv2d(channels, channels, kernel, padding=1, bias=False).requires_grad_(False)
    conv = conv.to(memory_format=torch.channels_last)
    low_x, low_conv = x.bfloat16(), torch.nn.Conv2d(channels, channels, kernel, padding=1, bias=False)
    low_conv = low_conv.requires_grad_(False).bfloat16().to(memory_format=torch.channels_last)
    product, convolution = 2.0 * SIDE**3, 2.0 * frames * (channels * side * kernel) ** 2
    calls: dict[str, tuple[float, Callable[[], object]]] = {
        f"product of {SIDE} x {SIDE}, float32": (product, lambda: a @ b),
        f"product of {SIDE} x {SIDE}, bfloat16": (product, lambda: low_a @ low_b),
        "convolution 3 x 3, float32": (convolution, lambda: conv(x)),
        "convolution 3 x 3, bfloat16": (convolution, lambda: low_conv(low_x)),
    }
    if hasattr(torch, "_int_mm"):
        whole_a = torch.randint(-127, 127, (SIDE, SIDE), dtype=torch.int8)
        whole_b = torch.randint(-127, 127, (SIDE, SIDE), dtype=torch.int8)
        calls[f"product of {SIDE} x {SIDE}, int8"] = (product, lambda: torch._int_mm(whole_a, whole_b))
    return calls


def run(*, quick: bool) -> Table:
    """The table: operations a second at best and in the middle."""
    found = _products()
    times = time_in_turns({name: call for name, (_, call) in found.items()}, rounds=3 if quick else 15)
    rows = [
        [
            name,
            f"{operations / times[name].median / 1e6:.0f}",
            f"{operations / min(times[name].ms) / 1e6:.0f}",
        ]
        for name, (operations, _) in found.items()
    ]
    return Table("The machine's peak", ("what", "Gop/s, median", "Gop/s, best"), rows)
