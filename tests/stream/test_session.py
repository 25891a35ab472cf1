"""One run: what is tried before what takes long is loaded."""

from __future__ import annotations

import pytest

from models.errors import UserError
from stream import session
from stream.options import DEMO_BUNDLE, DEMO_RECORDING, InputOptions, OutputOptions
from stream.session import open_engine
from tests.stream.brokers import Mosquitto, free_port

DEMO = InputOptions(str(DEMO_RECORDING), bundle=DEMO_BUNDLE, recogniser="none")


async def test_a_broker_that_is_not_there_is_named_before_anything_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        session, "load", lambda *args, **kwargs: pytest.fail("loaded before the broker was tried")
    )
    nobody = f"mqtt://127.0.0.1:{free_port()}"
    with pytest.raises(UserError, match=r"cannot connect to the broker at 127\.0\.0\.1"):
        async with open_engine(DEMO, OutputOptions(broker=nobody, view="none")):
            pytest.fail("must not open")


async def test_a_broker_that_is_there_is_said_to_be_tried_first(mosquitto: Mosquitto) -> None:
    told: list[str] = []
    there = f"mqtt://127.0.0.1:{mosquitto.port}"
    async with open_engine(DEMO, OutputOptions(broker=there, view="none"), tell_progress=told.append):
        assert told[0] == f"connecting to the broker at 127.0.0.1:{mosquitto.port}"
