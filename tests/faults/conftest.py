"""What the tests of faults share with the stream's: scripted edges, real brokers."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _own_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outboxes go to the test's own folder, in this process and in those it starts."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
