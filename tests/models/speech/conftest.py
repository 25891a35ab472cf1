"""The recogniser that ships."""

from __future__ import annotations

import pytest

from models.speech.recogniser import TINY_FOLDER, RecogniserFactory, open_recogniser


@pytest.fixture(scope="module")
def tiny() -> RecogniserFactory:
    return open_recogniser(TINY_FOLDER)
