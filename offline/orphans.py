"""A worker process whose parent was killed ends too: it would work, or wait for work, for ever."""

from __future__ import annotations

import contextlib
import os
import threading
from multiprocessing import parent_process


def end_with_parent() -> None:
    """From now on this process ends when its parent does, whatever it is doing. For workers of `multiprocessing`."""
    threading.Thread(target=_end, name="orphan watch", daemon=True).start()


def _end() -> None:
    parent = parent_process()
    if parent is None:
        return
    with contextlib.suppress(OSError):
        parent.join()
    os._exit(1)
