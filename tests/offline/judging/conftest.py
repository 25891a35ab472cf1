"""A loaded demo bundle to judge."""

from __future__ import annotations

import pytest

from offline.judging.live_path import JudgeOptions, LivePath


@pytest.fixture(scope="session")
def path() -> LivePath:
    """The demo bundle with the cascades, which are always there."""
    return LivePath(JudgeOptions("demo", detector="haar"))
