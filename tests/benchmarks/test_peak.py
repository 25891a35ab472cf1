"""The machine's peak, and how much of it a stage reaches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from benchmarks import peak
from benchmarks.accelerators import share_of_peak
from benchmarks.measuring import Timing
from benchmarks.naive import count_flops
from benchmarks.peak import Work
from models.accelerate.backend import Backend
from models.accelerate.hardware import has_package

if TYPE_CHECKING:
    import pytest


def nothing() -> None:
    pass


def test_the_peak_of_a_precision_is_the_best_of_its_products() -> None:
    works = {
        "a": Work("cpu", "float32", 2e9, nothing),
        "b": Work("cpu", "float32", 2e9, nothing),
        "c": Work("cuda", "float32", 2e9, nothing),
    }
    times = {"a": Timing((20.0, 10.0)), "b": Timing((8.0, 40.0)), "c": Timing((1.0,))}
    assert peak.peaks_of(works, times) == {("cpu", "float32"): 250.0, ("cuda", "float32"): 2000.0}


def test_a_stage_is_held_to_the_peak_of_its_own_device_and_precision() -> None:
    peaks = {("cpu", "float32"): 250.0, ("cpu", "int8"): 500.0, ("cuda", "float32"): 2000.0}
    shares = [
        share_of_peak(1e9, 10.0, backend, peaks)  # type: ignore[arg-type]
        for backend in (
            Backend("eager"),
            Backend("openvino", "int8"),
            Backend("cuda"),
            Backend("openvino", "bfloat16"),
        )
    ]
    assert shares == ["40 %", "20 %", "5 %", ""]


def test_an_operation_is_a_product_or_a_sum_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peak, "SIDE", 64)
    work = peak.products(1)["product of 64 x 64, float32, PyTorch"]
    a = torch.rand(64, 64)
    assert count_flops(lambda: a @ a) == work.operations


def test_every_precision_that_serves_here_has_a_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peak, "SIDE", 64)
    found = peak.measure_peaks(1, rounds=2)
    assert ("cpu", "float32") in found
    assert (("cpu", "int8") in found) == (has_package("openvino") and has_package("nncf"))
    assert all(gops > 0 for gops in found.values())
