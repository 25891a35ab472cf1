"""Brokers and a laboratory for the stream's tests, each test with state of its own."""

from __future__ import annotations

from tests.stream.broker_fixtures import mosquitto, own_state_folder, subscribe
from tests.stream.laboratory import laboratory, pylsl

__all__ = ["laboratory", "mosquitto", "own_state_folder", "pylsl", "subscribe"]
