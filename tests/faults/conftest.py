"""What the tests of faults share with the stream's: scripted edges, real brokers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

STREAM_TESTS = Path(__file__).resolve().parent.parent / "stream"
sys.path.insert(0, str(STREAM_TESTS))


@pytest.fixture(autouse=True)
def _own_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outboxes go to the test's own folder, in this process and in those it starts."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
