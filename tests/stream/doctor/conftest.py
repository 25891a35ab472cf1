"""Brokers for the doctor's tests, with state of their own."""

from __future__ import annotations

from tests.stream.broker_fixtures import mosquitto, own_state_folder

__all__ = ["mosquitto", "own_state_folder"]
