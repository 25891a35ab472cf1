"""Brokers for the tests of faults, each test with state of its own."""

from __future__ import annotations

from tests.stream.broker_fixtures import deadline, mosquitto, own_state_folder, subscribe

__all__ = ["deadline", "mosquitto", "own_state_folder", "subscribe"]
