"""A few seconds of the demo, what a run of them takes, and a look at the threads that a run leaves behind."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.affectstream.clips import cut_demo

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RUN_THREADS = ("affectstream", "source", "perception", "estimator", "speech", "sink")


@pytest.fixture(scope="session")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's first three seconds."""
    return cut_demo(tmp_path_factory.mktemp("talk") / "talk.mp4", 3.0)


@pytest.fixture
def quick() -> dict[str, Any]:
    """Options of a run that loads little: the demo bundle without words."""
    return {"bundle": "demo", "recogniser": "none", "accelerator": "eager"}


def running() -> list[str]:
    """The threads of runs that are still there."""
    return [t.name for t in threading.enumerate() if t.name.startswith(RUN_THREADS)]


def wait_until_closed() -> None:
    """Waits until no run is left."""
    deadline_s = time.monotonic() + 30
    while running() and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert running() == []


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    """Every test leaves everything closed; a moment later at the latest, where it left that to an event loop."""
    yield
    wait_until_closed()
