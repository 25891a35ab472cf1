"""Whether a machine is busy with other work."""

from __future__ import annotations

import os

import pytest

from models import machine as machine_module


class TestMachine:
    @pytest.mark.parametrize(
        ("load", "processors", "calm"),
        [(0.0, 1, True), (1.0, 1, False), (1.5, 2, True), (1.6, 2, False), (2.0, 2, False), (6.0, 8, True)],
    )
    def test_it_is_calm_while_a_quarter_of_its_processors_is_free(
        self, load: float, processors: int, calm: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(machine_module, "usable_processors", lambda: processors)
        monkeypatch.setattr(os, "getloadavg", lambda: (load, 9.0, 9.0))
        assert machine_module.is_calm() is calm

    def test_one_that_does_not_tell_its_load_counts_as_calm(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr(os, "getloadavg")
        assert machine_module.is_calm()
