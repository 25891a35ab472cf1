"""Fixtures of every test that needs a broker or a whole engine; a conftest takes them by importing them."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

import pytest

from tests.stream.brokers import Mosquitto, Subscriber

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["deadline", "mosquitto", "own_state_folder", "subscribe"]

DEADLINE_S = 180.0
SLOW_DEADLINE_S = 600.0


@pytest.fixture(autouse=True)
def deadline(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that waits for ever fails, and says where it waits: in its body, or for tasks that do not end.

    Again every few seconds: a callback of the event loop could take the first one for its own error.
    """
    limit_s = SLOW_DEADLINE_S if request.node.get_closest_marker("slow") else DEADLINE_S

    def fail(number: int, frame: object) -> None:
        pytest.fail(f"still running after {limit_s:g} s")

    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGALRM, fail)
    signal.setitimer(signal.ITIMER_REAL, limit_s, 5.0)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0.0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def own_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outboxes go to the test's own folder, in this process and in those it starts."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    """A running mosquitto on a free port; tests skip where it is not installed."""
    broker = Mosquitto(tmp_path)
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture
def subscribe() -> Iterator[Callable[[int], Subscriber]]:
    """Starts `mosquitto_sub` on a port; all are ended with the test."""
    subscribers: list[Subscriber] = []

    def start(port: int) -> Subscriber:
        subscribers.append(Subscriber(port))
        return subscribers[-1]

    yield start
    for subscriber in subscribers:
        subscriber.close()
