"""Brokers for the stream's tests, each test with state of its own."""

from __future__ import annotations

from tests.stream.broker_fixtures import mosquitto, own_state_folder, subscribe

__all__ = ["mosquitto", "own_state_folder", "subscribe"]
