"""How many processors this process may use, and whether other work keeps them busy. Imports nothing heavy."""

from __future__ import annotations

import os
from typing import Final

CALM_SHARE: Final = 0.75
"""The load, as a share of the processors, up to which times can be measured. At a full load every measurement waits
for a processor; at three quarters one of two processors is half free, and calls timed in turns are mostly
undisturbed.
"""


def usable_processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load_average() -> float:
    """How many threads ran or waited to run over the last minute; NaN where the system does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")


def is_calm() -> bool:
    """Whether other work leaves this machine's processors free enough for a measurement to mean something."""
    return not load_average() > CALM_SHARE * usable_processors()
