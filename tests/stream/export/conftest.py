"""A session to export: three seconds with a hole, two words, two markers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.stream.sessions import keep_session

if TYPE_CHECKING:
    from pathlib import Path

    from stream.session_folder.read import SessionFolder


@pytest.fixture
async def session(tmp_path: Path) -> SessionFolder:
    """It lies in a folder named `P07`; the last ten frames never settled."""
    return await keep_session(tmp_path / "P07", 90, unsettled=10)
