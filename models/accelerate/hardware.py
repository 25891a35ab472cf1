"""What accelerators need to know of this machine: facts that cache entries depend on, and what can be tried on it."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import torch


@cache
def device_name() -> str:
    """The graphics card's name and compute capability where there is one, else the processor's name."""
    if has_cuda():
        major, minor = torch.cuda.get_device_capability()
        return f"{torch.cuda.get_device_name()} sm_{major}{minor}"
    return processor_name()


@cache
def processor_name() -> str:
    """The processor as its system calls it, with the vector instructions that PyTorch uses."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{name} {torch.backends.cpu.get_cpu_capability()}"


def has_cpu_bfloat16() -> bool:
    """Whether PyTorch computes in bfloat16 on this processor without emulating it.

    False where PyTorch was built without oneDNN, as its wheels for macOS are.
    """
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):  # the operator is not registered, or has no kernel
        return False


@cache
def has_cuda() -> bool:
    """Whether PyTorch sees an NVIDIA device that it can use."""
    return torch.cuda.is_available()


def has_package(name: str) -> bool:
    """Whether a Python package of that import name is installed; it is not imported."""
    try:
        return find_spec(name) is not None
    except ValueError:  # a module put into sys.modules without a spec
        return True


def versions(*distributions: str) -> dict[str, str]:
    """The versions of installed distributions, `none` for one that is not there."""
    found = {}
    for name in distributions:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found
