"""The metrics sink: times estimates on their way, keeps the newest status, and serves both to Prometheus."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector
from prometheus_client.registry import Collector

from stream.logs import note
from stream.metrics.families import status_families
from stream.metrics.serving import MetricsServer
from stream.sinks.base import QuietSink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.metrics_core import Metric

    from stream.messages import Estimate, Status
    from stream.metrics.address import MetricsAddress

log = logging.getLogger(__name__)

BUCKETS_S: Final = (
    *(0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75),
    *(1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0),
)
"""From a frame's own time on a quick machine to a window that settles for want of words."""


class NewestStatus(Collector):
    """Gives the registry the metrics of whichever status is the newest; none before the first."""

    def __init__(self) -> None:
        self.status: Status | None = None

    def collect(self) -> Iterator[Metric]:
        """From the thread of whoever scrapes: a status never changes."""
        status = self.status
        return iter(()) if status is None else status_families(status)


class MetricsSink(QuietSink):
    """Keeps a registry of its own, which `address`, where there is one, serves by HTTP.

    Beside what a status says: `affect_latency_seconds`, a histogram of the time from a frame's capture until it was
    `perceived` (sight and sound looked at), `estimated` (its provisional estimate ready) and `settled`. A file that
    is replayed faster than it plays has no such times, nor has a frame without a picture of its own. `clock` is the
    wall clock in seconds.
    """

    name = "metrics"

    def __init__(
        self, address: MetricsAddress | None = None, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self._clock = clock
        self._newest = NewestStatus()
        self._server = None if address is None else MetricsServer(address, self.registry)
        self._is_timed = False
        latency = Histogram(
            "affect_latency_seconds",
            "From a frame's capture until it was perceived, estimated, settled.",
            ["until"],
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        self._until_perceived, self._until_estimated, self._until_settled = (
            latency.labels(until) for until in ("perceived", "estimated", "settled")
        )
        self.registry.register(self._newest)
        ProcessCollector(registry=self.registry)

    @property
    def url(self) -> str | None:
        """Where it is served, once open; None without an address."""
        return None if self._server is None else self._server.url

    async def open(self) -> None:
        """Serves, where there is an address. Raises UserError where it cannot be listened at."""
        if self._server is not None:
            await asyncio.to_thread(self._server.start)
            note(log, logging.INFO, "connected", f"metrics are at {self.url}", what="metrics", url=self.url)

    def offer(self, estimate: Estimate) -> None:
        """Times an estimate."""
        if estimate.settled:
            if self._is_timed:
                self._until_settled.observe(max(0.0, self._clock() - estimate.captured_at))
            return
        if estimate.perceived_at is not None:
            self._until_perceived.observe(max(0.0, estimate.perceived_at - estimate.captured_at))
        if estimate.latency_ms is not None:
            self._is_timed = True
            self._until_estimated.observe(max(0.0, estimate.latency_ms / 1e3))

    def offer_status(self, status: Status) -> None:
        """Keeps the newest."""
        self._newest.status = status

    async def close(self) -> None:
        """Ends the server."""
        if self._server is not None:
            await asyncio.to_thread(self._server.stop)
