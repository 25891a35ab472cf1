"""Fixtures of every test that needs a broker or a whole engine; a conftest takes them by importing them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.stream.brokers import Mosquitto, Subscriber

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["mosquitto", "own_state_folder", "subscribe"]


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
