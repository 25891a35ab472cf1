"""Curves for TensorBoard, where it is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from offline.files import Json

if TYPE_CHECKING:
    from pathlib import Path

Log = Callable[[Json], None]
"""Takes one line of the history."""


def installed() -> bool:
    """Whether TensorBoard's writer can be had."""
    return importlib.util.find_spec("tensorboard") is not None


@contextmanager
def open_log(folder: Path, epochs_done: int, *, enabled: bool = True) -> Iterator[Log]:
    """A log that writes event files into `folder`; points after `epochs_done` from a killed run are taken back.

    Does nothing where it is not `enabled` or TensorBoard is not installed.
    """
    if not enabled or not installed():
        yield lambda line: None
        return
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder), purge_step=epochs_done + 1)

    def log(line: Json) -> None:
        epoch = int(line["epoch"])
        points = {"loss/train": line["loss"], "learning_rate": line["learning_rate"], "phase": line["phase"]}
        for measure in ("ccc", "rmse", "pcc"):
            points |= {f"validation_{measure}/{t}": v for t, v in line[f"validation_{measure}"].items()}
        for name, value in points.items():
            writer.add_scalar(name, value, epoch)
        writer.flush()

    try:
        yield log
    finally:
        writer.close()
