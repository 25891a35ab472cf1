"""Which sinks the options mean."""

from __future__ import annotations

import secrets
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from models.errors import UserError
from stream.broker.connection import BrokerAddress
from stream.controls import Controls
from stream.options import OutputOptions
from stream.outputs import make_sinks
from stream.page.sink import PageSink
from stream.sinks.base import attached
from stream.view.terminal import TerminalSink
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


def test_the_terminal_names_the_page_where_its_port_is_known() -> None:
    for address, named in (("127.0.0.1:8080", True), ("127.0.0.1:0", False)):
        options = OutputOptions(page=True, page_address=address)
        sinks = make_sinks(options, None, Controls(), PARTS)
        terminal = next(sink for sink in sinks if isinstance(sink, TerminalSink))
        assert ("http://127.0.0.1" in terminal.panel.hint) is named


def test_a_rate_that_cannot_be_is_refused() -> None:
    with pytest.raises(UserError, match="a rate of 0"):
        names(BrokerAddress("127.0.0.1", 1883), rate=0.0)


async def test_metrics_beside_the_page_are_for_those_who_show_its_token() -> None:
    token = secrets.token_hex()
    options = OutputOptions(
        page=True,
        page_address=f"127.0.0.1:{free_port()}",
        page_token=token,
        metrics=f"127.0.0.1:{free_port()}",
        view="none",
    )
    sinks = make_sinks(options, None, Controls(), PARTS)
    async with attached(sinks) as outlet, httpx.AsyncClient() as client:
        outlet.offer_status(status())
        address = f"http://{options.page_address}/metrics"
        assert (await client.get(address)).status_code == 401
        shown = {
            "Authorization": f"Bearer {token}",
            "Accept": "application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5",
        }
        beside = await client.get(address, headers=shown)
        assert beside.headers["content-type"].startswith("application/openmetrics-text")
        alone = await client.get(f"http://{options.metrics}/metrics")
        assert "affect_frames_total 30.0" in beside.text
        assert "affect_frames_total 30.0" in alone.text


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
