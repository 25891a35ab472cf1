"""Metrics over HTTP, alone and beside other routes; and a dashboard that asks for nothing that is not there."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from prometheus_client import start_http_server
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette

from models.errors import UserError
from stream.metrics.address import MetricsAddress
from stream.metrics.serving import MetricsServer, metrics_route
from stream.metrics.sink import MetricsSink
from stream.sinks.base import attached
from tests.commands import command_line
from tests.stream.brokers import free_port, status

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).resolve().parents[3]
DASHBOARD = REPOSITORY / "examples" / "grafana-dashboard.json"
DOCUMENT = REPOSITORY / "docs" / "metrics.md"


def fetch(url: str, accept: str = "*/*") -> tuple[str, str]:
    """The type of an answer, and its text."""
    request = urllib.request.Request(url, headers={"Accept": accept})  # noqa: S310
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        return answer.headers["Content-Type"], answer.read().decode()


async def test_a_server_of_its_own_serves_while_the_sink_is_open_and_not_after() -> None:
    sink = MetricsSink(MetricsAddress("127.0.0.1", 0))
    async with attached([sink]) as outlet:
        outlet.offer_status(status())
        assert sink.url is not None
        url = sink.url
        content_type, text = await asyncio.to_thread(fetch, url)
        assert content_type.startswith("text/plain; version=")
        assert "affect_frames_total 30.0" in text
        assert "process_resident_memory_bytes" in text
    with pytest.raises(urllib.error.URLError):
        await asyncio.to_thread(fetch, url)
    assert not [thread for thread in threading.enumerate() if "serve_forever" in thread.name]


async def test_only_the_address_asked_for_listens() -> None:
    sink = MetricsSink(MetricsAddress.parse(str(free_port())))
    async with attached([sink]):
        assert sink.url is not None
        port = int(sink.url.split(":")[2].partition("/")[0])
        with socket.socket() as other:
            other.settimeout(2)
            assert other.connect_ex(("127.0.0.2", port)) != 0


def test_what_was_stopped_before_a_thread_came_to_start_it_does_not_start() -> None:
    port = free_port()
    server = MetricsServer(MetricsAddress("127.0.0.1", port), MetricsSink().registry)
    server.stop()
    server.start()
    with socket.create_server(("127.0.0.1", port)):
        assert not [thread for thread in threading.enumerate() if "serve_forever" in thread.name]


def test_a_stop_in_the_middle_of_a_start_waits_for_it_and_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    port, begins = free_port(), threading.Event()

    def start_slowly(*arguments: Any) -> Any:
        begins.set()
        time.sleep(0.3)
        return start_http_server(*arguments)

    monkeypatch.setattr("stream.metrics.serving.start_http_server", start_slowly)
    server = MetricsServer(MetricsAddress("127.0.0.1", port), MetricsSink().registry)
    starting = threading.Thread(target=server.start)
    starting.start()
    assert begins.wait(20)
    server.stop()
    starting.join(20)
    with socket.create_server(("127.0.0.1", port)):
        assert not starting.is_alive()


async def test_an_address_in_use_is_refused_in_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        sink = MetricsSink(MetricsAddress("127.0.0.1", taken.getsockname()[1]))
        with pytest.raises(
            UserError, match=r"cannot serve metrics at 127\.0\.0\.1:.*name a port that is free"
        ):
            async with attached([sink]):
                pytest.fail("it was opened")


async def test_a_route_serves_beside_others_in_either_format() -> None:
    sink = MetricsSink()
    sink.offer_status(status())
    app = Starlette(routes=[metrics_route(sink.registry)])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://page") as client:
        plain = await client.get("/metrics")
        assert plain.headers["content-type"].startswith("text/plain; version=")
        assert list(text_string_to_metric_families(plain.text))
        open_metrics = await client.get("/metrics", headers={"Accept": "application/openmetrics-text"})
        assert open_metrics.headers["content-type"].startswith("application/openmetrics-text")
        assert list(read_openmetrics(open_metrics.text))  # type: ignore[no-untyped-call]
        assert (await client.post("/metrics")).status_code == 405


@pytest.fixture(scope="module")
def scrape(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What a real run serves, some seconds into the demo."""
    port = free_port()
    arguments = ["--demo", "--accelerator", "eager", "--view", "none", "--metrics", f"127.0.0.1:{port}"]
    run = subprocess.Popen(command_line("stream-run", *arguments), stderr=subprocess.PIPE, text=True)
    deadline_s = time.monotonic() + 180
    try:
        text = ""
        while not re.search(r'latency_seconds_count\{until="settled"\} [1-9]\d', text):
            assert run.poll() is None, run.communicate()
            assert time.monotonic() < deadline_s
            time.sleep(0.5)
            try:
                _, text = fetch(f"http://127.0.0.1:{port}/metrics")
            except OSError:
                continue
        yield text
    finally:
        run.terminate()
        run.communicate(timeout=60)


def families(text: str) -> dict[str, Any]:
    return {family.name: family for family in text_string_to_metric_families(text)}


@pytest.mark.slow
def test_a_real_run_is_scraped(scrape: str) -> None:
    found = families(scrape)
    by_name = {
        (sample.name, *sample.labels.values()): sample.value
        for family in found.values()
        for sample in family.samples
    }
    assert found["affect_latency_seconds"].type == "histogram"
    assert by_name["affect_running",] == 1
    assert by_name["affect_frames_total",] > 30
    assert by_name["affect_broker_connections_total",] == 1
    assert by_name["affect_resident_memory_bytes",] > 100 * 2**20
    counts = [
        by_name["affect_latency_seconds_count", until] for until in ("perceived", "estimated", "settled")
    ]
    assert min(counts) >= 10
    sums = [by_name["affect_latency_seconds_sum", until] for until in ("perceived", "estimated")]
    assert 0 < sums[0] < sums[1]
    for until in ("perceived", "estimated", "settled"):
        buckets = [
            (float(sample.labels["le"]), sample.value)
            for sample in found["affect_latency_seconds"].samples
            if sample.name.endswith("_bucket") and sample.labels["until"] == until
        ]
        assert [value for _, value in sorted(buckets)] == sorted(value for _, value in buckets)
    info = found["affect_info"].samples[0].labels
    assert (info["bundle"], info["accelerator"], info["source"]) == ("demo", "eager", "demo.mp4")


def queries() -> list[str]:
    """Every expression that the dashboard asks Prometheus for."""
    board = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    asked = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    asked += [variable["query"] for variable in board["templating"]["list"] if variable["type"] == "query"]
    return asked


@pytest.mark.slow
def test_every_query_of_the_dashboard_names_a_metric_that_exists(scrape: str) -> None:
    samples = {sample.name: sample for family in families(scrape).values() for sample in family.samples}
    asked = queries()
    assert len(asked) > 12
    for query in asked:
        names = set(re.findall(r"\b(?:affect|process)_\w+", query))
        assert names, query
        assert names <= set(samples) | {"affect_drops_total"}, query
        for name, selector in re.findall(r"\b((?:affect|process)_\w+)\{([^}]*)\}", query):
            labels = set(re.findall(r"(\w+)\s*[=!~]+", selector)) - {"job", "instance"}
            assert name == "affect_drops_total" or labels <= set(samples[name].labels), query


def test_the_dashboard_is_one_that_grafana_imports() -> None:
    board = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    assert board["title"]
    assert board["uid"]
    assert board["schemaVersion"] >= 36
    assert [each["name"] for each in board["__inputs"]] == ["DS_PROMETHEUS"]
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    for panel in board["panels"]:
        assert panel["title"]
        assert panel["description"]
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        assert all(target["datasource"]["uid"] == "${DS_PROMETHEUS}" for target in panel["targets"])
        assert panel["fieldConfig"]["defaults"].get("unit")


@pytest.mark.slow
def test_the_document_names_every_metric(scrape: str) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    named = set(re.findall(r"`(affect_\w+)", text))
    served = {
        re.sub(r"_(bucket|sum|count)$", "", sample.name)
        for family in families(scrape).values()
        for sample in family.samples
        if family.name.startswith("affect")
    } - {"affect_latency_seconds_created"}
    assert named - {"affect_drops_total"} == served - {"affect_drops_total"}
