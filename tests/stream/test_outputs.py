"""Which sinks the options mean."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from models.errors import UserError
from stream.controls import Controls
from stream.mqtt.connection import BrokerAddress
from stream.options import OutputOptions
from stream.outputs import make_sinks
from stream.page.sink import PageSink
from stream.sinks.base import attached
from tests.stream.brokers import free_port, status

if TYPE_CHECKING:
    from pathlib import Path

    from stream.build import LoadedParts

PARTS = cast("LoadedParts", SimpleNamespace(runtime=SimpleNamespace(notes=())))


def names(broker: BrokerAddress | None = None, **options: Any) -> list[str]:
    return [sink.name for sink in make_sinks(OutputOptions(**options), broker, Controls(), PARTS)]


def test_nothing_asked_for_is_the_log_and_the_terminal() -> None:
    assert names() == ["log", "terminal"]
    assert names(view="none") == ["log"]


def test_each_output_is_there_where_it_is_asked_for(tmp_path: Path) -> None:
    assert names(view="none", record=tmp_path / "out.jsonl") == ["log", "record"]
    assert names(BrokerAddress("127.0.0.1", 1883), view="none") == ["log", "mqtt"]
    assert names(view="none", metrics="9464") == ["log", "metrics"]


def test_a_rate_that_cannot_be_is_refused() -> None:
    with pytest.raises(UserError, match="a rate of 0"):
        names(BrokerAddress("127.0.0.1", 1883), rate=0.0)


async def test_metrics_are_beside_the_page_without_an_address_of_their_own() -> None:
    address = f"127.0.0.1:{free_port()}"
    sinks = make_sinks(OutputOptions(page=True, page_address=address, view="none"), None, Controls(), PARTS)
    assert [sink.name for sink in sinks] == ["log", "metrics", "page"]
    async with attached(sinks) as outlet:
        outlet.offer_status(status())
        page = next(sink for sink in sinks if isinstance(sink, PageSink))
        async with httpx.AsyncClient() as client:
            found = await client.get(f"{page.url}metrics")
    assert found.status_code == 200
    families = {family.name for family in text_string_to_metric_families(found.text)}
    assert {"affect_frames", "affect_latency_seconds"} <= families
